# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers

VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' cloudinit_osnetd/__init__.py)
DEB := dist/cloudinit-osnetd_$(VERSION)_all.deb
# Built together, where there are the headers of a policy: see build-deb.
SELINUX_DEB := $(if $(wildcard /usr/share/selinux/devel/Makefile),dist/cloudinit-osnetd-selinux_$(VERSION)_all.deb)
# All that the package is made of. git names the files, so what a build leaves behind is never among them.
GIT := git -c safe.directory='*'
PACKAGED := $(shell $(GIT) ls-files --cached --others --exclude-standard -- bin cloudinit_osnetd debian dhcp docs osnetd_push selinux-policy systemd \
	udev cloud.cfg.d clean.d setup.py Makefile scripts/make-completion README.md CHANGELOG.md LICENSE 2>/dev/null)

# Where things go in the target. Packages set these; the defaults are Debian's.
DESTDIR ?=
PYTHON ?= python3
PYLIB ?= /usr/lib/python3/dist-packages
UNITDIR ?= /usr/lib/systemd/system
UDEVDIR ?= /usr/lib/udev/rules.d
# Where the units, the udev rule and the program look for the helpers; `make relocate` changes it in all of them.
LIBDIR = $(shell sed -n 's|^QUEUE_EVENT = "\(.*\)/queue-event"|\1|p' cloudinit_osnetd/system/paths.py)
MANDIR ?= /usr/share/man
CLOUDDIR ?= /etc/cloud
COMPLETIONDIR ?= /usr/share/bash-completion/completions
# The headers of the policy that the module is for, with their makefile: selinux-policy-dev, selinux-policy-devel.
SELINUX_MAKEFILE ?= /usr/share/selinux/devel/Makefile
SELINUX_TYPE ?= $(if $(wildcard /etc/redhat-release),targeted,default)

VENV := .venv/bin/python
SUITES := $(VENV) -m tests.suites

.DEFAULT_GOAL := help
KIND ?= trixie-networkd,bookworm-ifupdown,bullseye-ifupdown
OPERATIONS ?= 300
# What a soak is called with: those of its options that were given.
SOAK = --kind $(KIND) --operations $(OPERATIONS) $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) \
	$(if $(WITHOUT),--without $(WITHOUT)) $(if $(REPLAY),--replay $(REPLAY)) $(if $(STEPS),--steps $(STEPS)) $(if $(SHRINK),--shrink) \
	$(if $(SINGLE),--single $(SINGLE)) $(if $(AVOID),--avoid $(AVOID))

.PHONY: help bench demo test deb rpm dist install install-system relocate build-deb build-man bootstrap lint quick unit scenarios soak sudden-death deep lintian tox clean \
	install-host install-selftest install-selinux selinux test-all windows windows-zip

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## boot a guest in a simulated OpenStack; attach, edit and detach ports, reboot (GUEST=container: root)
	@scripts/bootstrap build lab tests
	@$(MAKE) --no-print-directory $(DEB)
	@OSNETD_DEB=$(CURDIR)/$(DEB) $(VENV) -m tests.demo

test: ## everything: lint, Python 3.6, unit tests, package, guests (root)
	@scripts/bootstrap build selinux lab tests checks
	@$(SUITES)

test-all: test windows ## `make test`, and what it leaves out for time's sake

windows: ## the Windows part, on a Windows Python under Wine (root)
	@scripts/bootstrap lab tests
	@$(SUITES) windows

bench: ## how fast a guest follows its ports, beside cloud-init's own hotplug and the floor: one table (root)
	@scripts/bootstrap build lab bench
	@$(MAKE) --no-print-directory $(DEB)
	@OSNETD_DEB=$(CURDIR)/$(DEB) .venv-bench/bin/python -m bench $(BENCH)

deb: ## build the Debian packages into dist/, for guests and for hosts
	@scripts/bootstrap build selinux
	@$(MAKE) --no-print-directory build-deb

rpm: ## build the RPM packages for Enterprise Linux 8 to 10 and Fedora, and their source package, into dist/ (rpmbuild)
	@command -v rpmbuild > /dev/null || scripts/bootstrap build checks
	@scripts/build-rpm dist $(DISTRIBUTIONS)

windows-zip: ## a zip with the wheel for Windows servers into dist/
	@scripts/bootstrap tests
	@scripts/build-windows-zip dist/cloudinit-osnetd-windows-$(VERSION).zip

dist: ## a release: source tarball, Debian and RPM packages, SHA256SUMS, into dist/VERSION
	@scripts/bootstrap build selinux checks
	@rm -rf dist/$(VERSION)
	@scripts/dist dist/$(VERSION)

bootstrap: ## install what demo and test need, with apt and into .venv (root; nothing to do the second time)
	@scripts/bootstrap build selinux lab tests checks

lint: ## ruff, mypy, shellcheck
	@scripts/bootstrap tests checks
	@$(SUITES) lint

quick: ## lint, the unit tests, and one scenario for each backend: five minutes (root)
	@scripts/bootstrap build lab tests checks
	@$(MAKE) --no-print-directory $(DEB)
	@$(SUITES) lint unit quick

unit: ## the unit tests that need nothing but Python
	@scripts/bootstrap tests
	@$(SUITES) unit

scenarios: ## the tests on real guests that `make test` runs (root)
	@scripts/bootstrap build lab tests
	@$(MAKE) --no-print-directory $(DEB)
	@$(SUITES) scenarios machines

soak: ## everything that may happen to a server, by lot (root; KIND=trixie-networkd SEED=1 OPERATIONS=300; REPLAY=FILE)
	@scripts/bootstrap build lab tests
	@$(MAKE) --no-print-directory $(DEB)
	@OSNETD_DEB=$(CURDIR)/$(DEB) $(VENV) -m tests.soak $(SOAK)

sudden-death: ## kill runs and fail disks at every operation, boot without each file of the package: two hours (root)
	@scripts/bootstrap build lab tests
	@$(MAKE) --no-print-directory $(DEB)
	@OSNETD_DEB=$(CURDIR)/$(DEB) OSNETD_STRIDE=1 $(VENV) -m pytest -q -s --no-header tests/scenarios/test_sudden_death.py tests/scenarios/test_package_incomplete.py

deep: ## a soak of each kind, and what boots virtual machines many times: an hour with KVM, more without (root)
	@scripts/bootstrap build selinux lab tests deep
	@$(MAKE) --no-print-directory $(DEB)
	@OSNETD_DEB=$(CURDIR)/$(DEB) $(VENV) -m tests.soak $(SOAK)
	@OSNETD_DEB=$(CURDIR)/$(DEB) $(VENV) -m pytest -v --no-header -m deep tests/scenarios
	@$(VENV) -m pytest -v --no-header tests/neutron
	@OSNETD_DEB=$(CURDIR)/$(DEB) OSNETD_STRIDE=1 $(VENV) -m pytest -v --no-header tests/soak

lintian: ## what Debian's checker says of the package
	@scripts/bootstrap build tests checks
	@$(SUITES) lintian

tox: ## the unit tests on every Python from 3.6 on that is here
	@scripts/bootstrap tests
	@scripts/all-pythons .venv/bin/tox --skip-missing-interpreters true

install: build-man ## install below DESTDIR, without a package manager
	$(PYTHON) setup.py -q install --root=$(or $(DESTDIR),/) --install-lib=$(PYLIB) --install-scripts=/usr/bin
	$(MAKE) --no-print-directory install-system
	install -D -m 0644 build/man/cloudinit-osnetd.8 $(DESTDIR)$(MANDIR)/man8/cloudinit-osnetd.8
	install -D -m 0644 build/man/cloudinit-osnetd.5 $(DESTDIR)$(MANDIR)/man5/cloudinit-osnetd.5

install-host: build/man/osnetd-push.1 ## install osnetd-push below DESTDIR, for a host
	install -D -m 0755 bin/osnetd-push $(DESTDIR)/usr/bin/osnetd-push
	install -D -m 0644 -t $(DESTDIR)$(PYLIB)/osnetd_push osnetd_push/*.py
	install -D -m 0644 build/man/osnetd-push.1 $(DESTDIR)$(MANDIR)/man1/osnetd-push.1

install-selftest: build/man/cloudinit-osnetd-selftest.8 ## install the self-test below DESTDIR
	install -D -m 0755 bin/cloudinit-osnetd-selftest $(DESTDIR)/usr/bin/cloudinit-osnetd-selftest
	install -D -m 0644 build/man/cloudinit-osnetd-selftest.8 $(DESTDIR)$(MANDIR)/man8/cloudinit-osnetd-selftest.8

selinux: build/selinux/cloudinit-osnetd.pp ## the SELinux policy module, for the policy whose headers are installed

# In a copy: the makefile writes beside its sources.
build/selinux/cloudinit-osnetd.pp: selinux-policy/cloudinit-osnetd.te selinux-policy/cloudinit-osnetd.fc selinux-policy/cloudinit-osnetd.if
	@mkdir -p $(@D)
	cp $^ $(@D)
	$(MAKE) --no-print-directory -C $(@D) -f $(SELINUX_MAKEFILE) NAME=$(SELINUX_TYPE) $(@F)

install-selinux: build/selinux/cloudinit-osnetd.pp ## install the policy module below DESTDIR; packages load it
	install -d $(DESTDIR)/usr/share/selinux/packages/$(SELINUX_TYPE)
	bzip2 -9c $< > $(DESTDIR)/usr/share/selinux/packages/$(SELINUX_TYPE)/cloudinit-osnetd.pp.bz2
	chmod 0644 $(DESTDIR)/usr/share/selinux/packages/$(SELINUX_TYPE)/cloudinit-osnetd.pp.bz2
	install -D -m 0644 selinux-policy/cloudinit-osnetd.if $(DESTDIR)/usr/share/selinux/devel/include/distributed/cloudinit-osnetd.if

clean: ## remove what was built and tested, not .venv and the guests' roots (.lab)
	rm -rf build dist .pybuild *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .tox

# In an unpacked source, for a package that has its helpers elsewhere: make relocate TO=/usr/libexec/cloudinit-osnetd
relocate:
	grep -rlF $(LIBDIR)/ bin cloudinit_osnetd systemd udev docs/man | xargs sed -i 's|$(LIBDIR)/|$(TO)/|g'

# What setuptools does not install: shared by `make install`, debian/rules and the spec file.
install-system:
	install -d $(DESTDIR)$(COMPLETIONDIR)
	$(PYTHON) -B scripts/make-completion > $(DESTDIR)$(COMPLETIONDIR)/cloudinit-osnetd
	install -D -m 0755 udev/queue-event $(DESTDIR)$(LIBDIR)/queue-event
	install -D -m 0644 udev/90-cloudinit-osnetd.rules $(DESTDIR)$(UDEVDIR)/90-cloudinit-osnetd.rules
	install -D -m 0755 clean.d/95_osnetd $(DESTDIR)$(CLOUDDIR)/clean.d/95_osnetd
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(CLOUDDIR)/cloud.cfg.d
	install -m 0644 systemd/*.service systemd/*.path systemd/*.timer $(DESTDIR)$(UNITDIR)
	install -D -m 0644 -t $(DESTDIR)$(UNITDIR)/cloud-init-hotplugd.service.d systemd/cloud-init-hotplugd.service.d/*
	install -m 0755 systemd/early-boot systemd/serve-queue bin/apply-network-config bin/host-command $(DESTDIR)$(LIBDIR)
	ln -sfn $(PYLIB)/cloudinit_osnetd/sources/95_osnetd.cfg $(DESTDIR)$(CLOUDDIR)/cloud.cfg.d/95_osnetd.cfg

build-man: build/man/cloudinit-osnetd.8 build/man/cloudinit-osnetd.5 build/man/osnetd-push.1 build/man/cloudinit-osnetd-selftest.8

build/man/%: docs/man/%.rst
	@mkdir -p $(@D)
	rst2man --strict $< $@ 2>/dev/null || rst2man.py --strict $< $@

build-deb: $(DEB) $(SELINUX_DEB)

# In a copy, so that the checkout stays as it is. Once for all of them.
$(DEB) $(SELINUX_DEB) &: $(PACKAGED)
	@scripts/build-deb $(DEB)
