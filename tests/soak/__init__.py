# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The soak: a server to which everything happens, in an order drawn by lot, and an oracle that knows what it must have.

world        (pure) what the cloud says, what the guest could hear of it, what each NIC must have
operations   (pure) what may happen, and what each does to the world
generator    (pure) a seed to a list of operations
oracle       (pure) a picture of the guest against the world
picture      how the guest is looked at; inside/look.py runs there
deeds        each operation, done to the lab's cloud and guest
runner       operation by operation: do it, wait for the guest, judge
shrink       (pure) the few operations that a failure takes
plants       faults put into the guest behind our back: the soak must find them
"""
