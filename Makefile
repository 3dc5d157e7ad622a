# Everything that a person or a CI job does here. PACKAGES="-p lab" narrows lint and test to some crates.

PACKAGES   ?= --workspace
DEMO_ARGS  ?=
# For how long `make soak` goes on with proofs, after so many simulated worlds of the agent.
SOAK_SECONDS ?= 3600
SOAK_WORLDS ?= 10000
# What `make fuzz` runs, each for so long.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= openflow openflow_damaged flow_text flow_text_damaged ovsdb ovsdb_damaged ovsdb_rows ovsdb_rows_damaged \
	policy_document policy_document_damaged store_rows store_rows_damaged neutron_message neutron_message_damaged pipeline
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

# The tests and the demo make network namespaces, which takes root; what is built belongs to the caller.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)
ifneq ($(SUDO),)
TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export CARGO_TARGET_$(TRIPLE)_RUNNER = $(SUDO)
endif

# Of each release of Neutron since 2023.1 the last version, oldest first.
NEUTRON_VERSIONS ?= 22.2.1 23.5.0 24.2.2 25.2.3 26.0.6 27.0.4 28.0.2 29.0.0

.PHONY: deps peers build package test test-package test-neutron test-neutron-driver test-neutron-level test-neutron-releases random soak fuzz faults \
	mutants bench bench-store bench-neutron instructions lint deny demo clean

build:
	cargo build --release

deps:
	scripts/install-deps.sh

# The Debian package, in debian/ of the target directory: docs/operations/install.md. PACKAGE_PROFILE=dev: of a quick build.
PACKAGE_PROFILE ?= release
package:
	scripts/package.sh $(PACKAGE_PROFILE)

# The package, of a quick build unless PACKAGE_PROFILE=release is given, on a clean Debian 12 that is booted for it.
test-package: PACKAGE_PROFILE := dev
test-package: package
	scripts/install-packages.sh debootstrap ethtool
	$(SUDO) env PYTHONPATH=integration PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m package_check \
		--package $$(ls -t $(TARGET_DIR)/debian/*.deb | head -1) --work $(abspath $(TARGET_DIR))/package

# Whom `make bench BENCH_ARGS="--peer neutron --peer ovn"` measures sgflow against.
peers:
	scripts/install-peers.sh $(abspath $(TARGET_DIR))/peers

lint:
	cargo fmt --all --check
	cargo clippy $(PACKAGES) --all-features --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(PACKAGES) --all-features --no-deps --document-private-items

# What is drawn at random is the same each time, so that a test that fails is about the change it is run for: `make random` draws anew.
test: export PROPTEST_RNG_SEED ?= 1
test: export BOLERO_RANDOM_SEED ?= 1
test: deps lint
	if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run $(PACKAGES) --all-features; \
	else \
		cargo test $(PACKAGES) --all-features --lib --bins --tests; \
	fi
	cargo test $(PACKAGES) --all-features --doc

# The driver that neutron-openvswitch-agent loads, installed and tested in an environment with the newest Neutron, or with each.
# Its test on a real switch, in a network namespace, is left out without root or Open vSwitch.
test-neutron-driver: NEUTRON_VERSIONS := $(lastword $(NEUTRON_VERSIONS))
test-neutron-driver test-neutron-releases:
	set -e; for version in $(NEUTRON_VERSIONS); do \
		venv=$(abspath $(TARGET_DIR))/neutron/venv-$$version; \
		scripts/neutron-venv.sh $$version $$venv; \
		echo "Neutron $$version"; \
		case $$version in 22.*|23.*|24.*|25.*|26.*) export SGFLOW_EVENTLET=1;; *) unset SGFLOW_EVENTLET;; esac; \
		(cd integration/neutron/sgflow_neutron && nice -n 19 $$venv/bin/python -B -W ignore -m unittest -b); \
	done

# sgflow inside a real Neutron, which is installed and started for it: integration/neutron/README.md.
NEUTRON_ARGS ?=
test-neutron: deps
	cargo build -p sgflow
	$(SUDO) env PYTHONPATH=integration/neutron PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m harness \
		--target $(abspath $(TARGET_DIR)) $(NEUTRON_ARGS)

# The driver called by Neutron's own code on a bridge of its own a scenario, without a server: integration/neutron/driver_level.
# LEVEL_ARGS="--driver openvswitch --limit 480": Neutron's own driver, the control; --faults: that each scenario can fail.
LEVEL_ARGS ?=
test-neutron-level: NEUTRON_VERSION := $(lastword $(NEUTRON_VERSIONS))
test-neutron-level: deps
	cargo build -p sgflow
	scripts/neutron-venv.sh $(NEUTRON_VERSION) $(abspath $(TARGET_DIR))/neutron/venv-$(NEUTRON_VERSION)
	cd integration/neutron && $(SUDO) env PYTHONPATH=.:sgflow_neutron PYTHONDONTWRITEBYTECODE=1 nice -n 10 \
		$(abspath $(TARGET_DIR))/neutron/venv-$(NEUTRON_VERSION)/bin/python -W ignore -m driver_level \
		--target $(abspath $(TARGET_DIR)) $(LEVEL_ARGS)

# Worlds in which anything happens to the agent, then random policies of realistic size, proved one after the other.
soak:
	SGFLOW_SIMULATIONS=$(SOAK_WORLDS) cargo test --release -p agent --lib simulation::at_every -- --nocapture
	set -e; end=$$(($$(date +%s) + $(SOAK_SECONDS))); while [ $$(date +%s) -lt $$end ]; do \
		cargo test --release -p verify --test symbolic_large more; \
	done

# The tests that draw histories, documents and messages at random, again and again, each time others. What fails is printed at its
# smallest, and becomes a test with a name.
RANDOM_SECONDS ?= 600
RANDOM_IN = $(addprefix -p ,policy pipeline reconcile store ovsdb neutron rust-openflow conntrack ipset nftables hybrid explain) \
	--lib --test simulation --test history --test codec --test damaged
random:
	set -e; end=$$(($$(date +%s) + $(RANDOM_SECONDS))); while [ $$(date +%s) -lt $$end ]; do \
		cargo test -q $(RANDOM_IN); \
	done

# One target after the other: guided by coverage where cargo-bolero is installed, else by chance alone; docs/fuzzing.md. What is
# guided also adds what it finds new to the corpus under FUZZ_CORPUS, outside of the repository.
FUZZ_CORPUS ?= $(abspath $(TARGET_DIR))/fuzz-corpus
fuzz:
	set -e; for target in $(FUZZ_TARGETS); do \
		if cargo bolero --version >/dev/null 2>&1; then \
			corpus=$(FUZZ_CORPUS)/$$target; mkdir -p $$corpus $(FUZZ_CORPUS)/crashes/$$target; \
			seeds=fuzz/tests/__fuzz__/$$target/corpus; \
			if [ -d $$seeds ]; then cp -n $$seeds/* $$corpus; fi; \
			cargo bolero test -p fuzz $$target --engine libfuzzer --sanitizer NONE --rustc-bootstrap --profile release \
				--target-dir $(abspath $(TARGET_DIR))/fuzz-build --corpus-dir $$corpus \
				--crashes-dir $(FUZZ_CORPUS)/crashes/$$target -T $(FUZZ_SECONDS)s; \
		else \
			BOLERO_RANDOM_TEST_TIME_MS=$$(($(FUZZ_SECONDS) * 1000)) BOLERO_RANDOM_ITERATIONS=18446744073709551615 \
				cargo test --release -p fuzz --tests -- --exact --nocapture $$target; \
		fi; \
	done

# Each seeded fault in a copy of the repository, and which check sees it; docs/faults.md. FAULTS="name …": those alone.
FAULTS ?=
faults:
	cargo run -p tests --bin faults -- $(FAULTS)

# Every mutant of policy and pipeline, by cargo-mutants: first against the tests beside the code, then what survived against the
# pages, then against the judges; docs/faults.md. What was caught before is not tried again: MUTANTS_OUT keeps it.
MUTANTS_OUT ?= $(abspath $(TARGET_DIR))/mutants
MUTANTS_FILES ?= crates/policy/** crates/pipeline/**
# Their tests are not of the packages that are changed, which is where a baseline would look for them.
ELSEWHERE = --baseline=skip --timeout 90
WITH_PAGES = $(ELSEWHERE) --test-package tests -C=--test=cases
WITH_JUDGES = $(ELSEWHERE) --test-package policy,pipeline,verify -C=--lib -C=--test=cost -C=--test=generations -C=--test=history -C=--test=retire \
	-C=--test=against_evaluator -C=--test=symbolic -C=--test=network_exit
MUTANTS = PROPTEST_MAX_SHRINK_ITERS=0 PROPTEST_DISABLE_FAILURE_PERSISTENCE=1 CARGO_PROFILE_DEV_DEBUG=0 \
	nice -n 10 cargo mutants -p policy -p pipeline --iterate --output $(MUTANTS_OUT) \
	$(foreach file,$(MUTANTS_FILES),-f '$(file)')
mutants:
	mkdir -p $(MUTANTS_OUT)
	$(MUTANTS) -C=--lib || [ $$? -eq 2 -o $$? -eq 3 ]
	$(MUTANTS) $(WITH_PAGES) || [ $$? -eq 2 -o $$? -eq 3 ]
	$(MUTANTS) $(WITH_JUDGES)

# Figures, as tables and as docs/benchmarks keeps them.
BENCH_ARGS ?= --big --json docs/benchmarks/figures.json
bench: deps build
	$(SUDO) $(TARGET_DIR)/release/sgflow bench $(BENCH_ARGS)

# The policy store under a thousand agents; with BENCH_STORE_ARGS=--quick it is a test that all of that still works, of a quarter of a minute.
BENCH_STORE_ARGS ?= --json docs/benchmarks/store.json --plots docs/benchmarks
bench-store: deps build
	$(SUDO) $(TARGET_DIR)/release/sgflow bench --store $(BENCH_STORE_ARGS)

# What our driver, Neutron's own and one that does nothing cost under the agent's own code: docs/benchmarks. With
# BENCH_NEUTRON_ARGS=--quick it is a test that all of that still works, of a minute and a half.
BENCH_NEUTRON_ARGS ?= --json docs/benchmarks/neutron-driver.json --plot docs/benchmarks/neutron-driver.svg
bench-neutron: VERSION := $(lastword $(NEUTRON_VERSIONS))
bench-neutron: deps
	cargo build --release -p sgflow
	scripts/neutron-venv.sh $(VERSION) $(abspath $(TARGET_DIR))/neutron/venv-$(VERSION)
	$(SUDO) env PYTHONPATH=integration/neutron PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m benchmark \
		--venv $(abspath $(TARGET_DIR))/neutron/venv-$(VERSION) --program $(abspath $(TARGET_DIR))/release/sgflow \
		--logs $(abspath $(TARGET_DIR))/neutron/benchmark-logs $(BENCH_NEUTRON_ARGS)

# Instructions of the micro-benchmarks against those of docs/benchmarks/instructions.json; RECORD=1 takes over what is counted.
# What is built does not depend on the caller's settings, or neither would what is counted.
RECORD ?=
instructions:
	scripts/install-packages.sh valgrind jq
	CARGO_PROFILE_BENCH_LTO=off CARGO_PROFILE_BENCH_DEBUG=0 CARGO_INCREMENTAL=0 RECORD=$(RECORD) scripts/count-instructions.sh

deny:
	cargo deny check licenses

demo: deps build
	$(SUDO) $(TARGET_DIR)/release/sgflow demo $(DEMO_ARGS)

clean:
	cargo clean
