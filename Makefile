# `make run` and `make test` are all that a fresh machine needs; both say what they do.
# One profile for everything, so that nothing is compiled twice; PROFILE=release to run for real.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

CONFIG ?= config/rouse.toml
PROFILE ?= dev
ARGS ?=

export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
CARGO_TARGET_DIR ?= target
ROUSE := $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/rouse

say = @printf '\n== %s\n' "$(1)"

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build certs/server.pem ## Install what is missing, build, make development certificates, start
	$(call say,rouse serve --config $(CONFIG): stop it with Ctrl-C)
	@exec $(ROUSE) serve --config $(CONFIG) $(ARGS)

.PHONY: demo
demo: build ## Play a call to a sleeping phone over loopback sockets (ARGS="--fcm --tls --json")
	$(call say,rouse demo $(ARGS))
	@$(ROUSE) demo $(ARGS)

.PHONY: check
check: build certs/server.pem ## Look at the configuration, and whether Asterisk answers
	@$(ROUSE) check --config $(CONFIG) $(ARGS)

.PHONY: build
build: ## Build the program
	$(call say,what a build needs: Rust and a C compiler)
	@.ci/need rust
	$(call say,cargo build --profile $(PROFILE))
	@cargo build --locked --profile $(PROFILE)

certs/server.pem:
	$(call say,certificates for development)
	@$(ROUSE) certs --dir certs

.PHONY: test
test: ## Install what the tests need, and run all of them
	$(call say,what the tests need: Rust, SIPp, fail2ban, Chromium, tshark and sngrep. Asterisk is fetched by the live tests themselves)
	@.ci/need rust sipp=sip-tester fail2ban-regex=fail2ban chromium=chromium chromedriver=chromium-driver tshark=tshark sngrep=sngrep
	$(call say,format)
	@cargo fmt --check
	$(call say,lints: a warning is an error)
	@cargo clippy --locked --all-targets -- -D warnings
	$(call say,tests: unit - sim - conformance - config - layering - live)
	@cargo test --locked --no-fail-fast $(ARGS)
	@$(MAKE) doc

.PHONY: sim
sim: ## Play schedules (SEEDS=200000 FROM=0 MOST=5: list so many that fail), or tell one (SEED=7 FAULT=LostCancel)
	$(call say,schedules: phones - Asterisk - push services - network, in virtual time)
	@.ci/need rust
	@$(if $(SEEDS),SIM_SEEDS=$(SEEDS)) $(if $(FROM),SIM_FROM=$(FROM)) $(if $(MOST),SIM_MOST=$(MOST)) $(if $(SEED),SIM_SEED=$(SEED)) $(if $(FAULT),SIM_FAULT=$(FAULT)) \
		cargo test --locked --test sim $(ARGS) schedule::no_schedule

# Nightly and cargo-fuzz see which inputs are new to the program; without them chance must do.
FUZZ_TARGETS := message framing uri header config push_reply store_record websocket gateway

.PHONY: fuzz
fuzz: ## Throw changed bytes at all that reads any, for SECONDS=60 each (TARGETS="uri gateway")
	@.ci/need rust
	@if cargo +nightly fuzz --version >/dev/null 2>&1; then \
		printf '\n== fuzz: cargo-fuzz, by coverage\n'; \
		for target in $(or $(TARGETS),$(FUZZ_TARGETS)); do \
			mkdir -p fuzz/corpus/$$target; \
			cargo +nightly fuzz run $$target fuzz/corpus/$$target tests/fuzz/corpus/$$target -- \
				-max_total_time=$(or $(SECONDS),60) -timeout=10 -rss_limit_mb=2048; \
		done; \
	else \
		printf '\n== fuzz: by chance, for want of cargo-fuzz and a nightly compiler\n'; \
		FUZZ_SECONDS=$(or $(SECONDS),60) cargo test --locked --test fuzz -- --nocapture changed_; \
	fi

.PHONY: test-faults
test-faults: ## Kill, drain, reload and starve Rouse as a process, between stand-ins
	$(call say,faults: kill -9 - SIGTERM - SIGHUP - Asterisk - push services - disk - clock)
	@.ci/need rust sipp=sip-tester faketime=faketime
	@cargo test --locked --test faults -- --include-ignored --test-threads=4 $(ARGS)

SCHEMATHESIS := $(CARGO_TARGET_DIR)/schemathesis

.PHONY: test-api
test-api: build $(SCHEMATHESIS) ## Ask a running gateway's API all that its description allows (EXAMPLES=40)
	$(call say,schemathesis: docs/openapi.json against rouse serve)
	@tests/admin/schemathesis.sh $(ROUSE) $(SCHEMATHESIS)/bin/schemathesis

# The versions of requirements.txt, from whatever index pip is set to.
$(SCHEMATHESIS): tests/admin/requirements.txt
	$(call say,schemathesis: pip install)
	@.ci/need python3=python3
	@python3 -c 'import ensurepip, venv' 2>/dev/null || .ci/need ensurepip=python3-venv
	@python3 -m venv $@
	@$@/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.PHONY: test-otlp
test-otlp: ## Check the build with OpenTelemetry traces, against a collector
	$(call say,otlp: what is not in the default build)
	@.ci/need rust
	@cargo clippy --locked --features otlp --lib --bins --test admin -- -D warnings
	@cargo test --locked --features otlp --test admin traces:: $(ARGS)

.PHONY: test-peers
test-peers: tests/peers/sipjs/node_modules ## Install Linphone, baresip and SIP.js, and have them called through Rouse by real Asterisks
	$(call say,telephones that others wrote: Linphone - baresip - SIP.js)
	@.ci/need rust linphone-daemon=linphone-cli baresip=baresip-core ip=iproute2 nft=nftables conntrack=conntrack
	@some=; if ! unshare --net true 2>/dev/null; then \
		echo "left out: nat, since this user may not make network namespaces"; some="--skip nat::"; fi; \
	cargo test --locked --no-run --test peers --test live; \
	cargo test --locked --test live -- --ignored $(ARGS) & waits=$$!; failed=; \
	cargo test --locked --test peers -- --ignored --test-threads=4 $$some $(ARGS) || failed=1; \
	wait $$waits || failed=1; [ -z "$$failed" ]

# The versions and checksums of package-lock.json, from whatever registry npm is set to.
tests/peers/sipjs/node_modules: tests/peers/sipjs/package.json tests/peers/sipjs/package-lock.json
	$(call say,SIP.js: npm ci)
	@.ci/need node=nodejs npm=npm
	@npm ci --prefix tests/peers/sipjs --no-audit --no-fund --loglevel=error
	@touch $@

DEB := $(CARGO_TARGET_DIR)/rouse.deb

.PHONY: deb
deb: ## Build a Debian package
	@.ci/need rust dpkg-deb=dpkg
	$(call say,cargo deb)
	@command -v cargo-deb >/dev/null || cargo install --locked --quiet cargo-deb@3.8.0
	@cargo build --locked --release --bin rouse
	@mkdir -p target/pages && cd target/pages && rouse=$(abspath $(CARGO_TARGET_DIR))/release/rouse && \
	    "$$rouse" man man && "$$rouse" completions bash >rouse.bash && \
	    "$$rouse" completions zsh >_rouse && "$$rouse" completions fish >rouse.fish
	@cargo deb --locked --no-build --output $(DEB)

.PHONY: test-package
test-package: deb ## Install, run, upgrade and purge the package; check the alert rules
	$(call say,the package: install - run - stop - upgrade - purge)
	@if [ "$$(id -u)" = 0 ]; then tests/packaging/deb.sh $(DEB); \
	else echo "left out: installing needs root; sudo tests/packaging/deb.sh $(DEB)"; fi
	$(call say,the image without an engine: size - user - health check)
	@if [ "$$(id -u)" = 0 ]; then tests/packaging/image.sh $(CARGO_TARGET_DIR)/release/rouse; \
	else echo "left out: a root of its own needs root"; fi
	$(call say,alert rules: promtool)
	@.ci/need promtool=prometheus
	@promtool check rules config/prometheus/rouse.rules.yml
	@promtool test rules config/prometheus/rouse.rules_test.yml

KAMAILIO := /usr/lib/$(shell gcc -dumpmachine 2>/dev/null)/kamailio/modules
COMPARE = $(CARGO_TARGET_DIR)/load/release/load --rouse $(CARGO_TARGET_DIR)/release/rouse --kamailio bench/kamailio.cfg
OUT ?= bench.json

.PHONY: test-cost
test-cost: ## Count the instructions of a call, a REGISTER and a wake: none may cost more than bench/cost/ceilings.rs allows
	@.ci/need rust valgrind=valgrind
	$(call say,instructions: call - register - refresh - wake)
	@cargo bench --locked --profile profiling --bench cost -- check

.PHONY: bench-build
bench-build:
	@.ci/need rust kamailio=kamailio $(KAMAILIO)/tls.so=kamailio-tls-modules \
		$(KAMAILIO)/db_sqlite.so=kamailio-sqlite-modules $(KAMAILIO)/http_client.so=kamailio-utils-modules sqlite3=sqlite3
	$(call say,cargo build --release: the gateway and its load)
	@cargo build --locked --release
	@cargo build --locked --release --manifest-path bench/load/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/load

.PHONY: bench
bench: bench-build ## Compare with Kamailio, three measured rounds after two, into bench/README.md (ARGS="--only call_udp")
	$(call say,each work on both servers in turn: keep the machine quiet)
	@$(COMPARE) --rounds 3 --warm 2 --heavy 2 --out $(OUT) --table bench/README.md $(ARGS)

.PHONY: bench-quick
bench-quick: bench-build ## The same in a quarter of an hour (OUT=file.json)
	$(call say,each work on both servers in turn: keep the machine quiet)
	@$(COMPARE) --quick --rounds 2 --warm 0 --heavy 1 --out $(OUT) $(ARGS)

.PHONY: soak
soak: ## Register, call and wake for SECONDS=600, with faults, and see that nothing is left of it
	@.ci/need rust
	@cargo build --locked --profile $(PROFILE)
	@cargo build --locked --release --manifest-path bench/load/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/load
	$(call say,soak: what the gateway holds before and after)
	@SOAK_SECONDS=$(or $(SECONDS),600) $(CARGO_TARGET_DIR)/load/release/load \
		--rouse $(ROUSE) --kamailio bench/kamailio.cfg --server rouse --only soak --out $(OUT)

.PHONY: bench-overload
bench-overload: ## Offer five times the calls that it can take, the load on one core and Rouse on the other (OUT=file.json)
	@.ci/need rust
	@cargo build --locked --release
	@cargo build --locked --release --manifest-path bench/load/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/load
	$(call say,more calls than it can take: keep the machine quiet)
	@$(COMPARE) --server rouse --only overload --rounds 1 --warm 0 --out $(OUT) $(ARGS)

.PHONY: doc
doc: ## Build the documentation: private items too, so links to them are right
	$(call say,documentation: a warning is an error)
	@RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --locked --no-deps --document-private-items

.PHONY: image
image: ## Build the container image
	$(call say,docker build)
	@docker build -t rouse .
