# Everything that people do with this repository. `make up` and `make test` do all the set-up on a fresh Debian/Ubuntu.
.PHONY: up up-distributed build test test-engines engine-tests engines engines-stop lint bench bench-engines bench-registry bench-backlog trial-connect sim simulate kill-loop kill-roles outages clocks rebalance standby tools

TARGET := $(or $(CARGO_TARGET_DIR),target)
FAJMA  := $(TARGET)/release/fajma
PROVE  := $(TARGET)/debug/fajma-killloop
CRATES := schemas eventlog ingest processors projections api app benches

# Everything is built once, with the tests that need real engines: these stand in modules named engines. A crate asked for
# by its name has other features of its dependencies, and builds them again.
ALL := --workspace --locked --features eventlog/engine-tests,processors/engine-tests,projections/engine-tests

# A moment that nobody waits for.
LATE := 9999999999

# What of the end-to-end suite runs on real engines too: all that could differ there, and what needs them.
ON_ENGINES := moved outside::raw patients recorded readme::the_first bad_messages schemas broker_token assignments care \
  commands::policy commands::what_an_operator consultations importing merging orders roles stock_tools tokens

up: build                ## everything in one process, with three simulated patients (UP="--data DIR" for your own flags)
	$(FAJMA) up $(or $(UP),--demo 3)

up-distributed: build    ## every role in a process of its own, on a real Kafka and Cassandra on this machine
	docker/engines/distributed $(FAJMA)

build: tools             ## the release binary, at $(TARGET)/release/fajma
	cargo build --release --locked -p app --bin fajma

test: tools              ## every test, those on real engines as well where they can be had
	cargo test $(ALL) -- --skip engines::
	$(MAKE) test-engines

test-engines:            ## the tests on a real Kafka and a real Cassandra, started for them; says so where they cannot be had (UNTIL=seconds since 1970)
	@left=$$(( $(or $(UNTIL),$(LATE)) - $$(date +%s) )); \
	docker/engines/engines run timeout $$(( left > 1 ? left : 1 )) $(MAKE) engine-tests; \
	case $$? in \
	  0|3) ;; \
	  124) echo "NOT RUN: the rest of the tests on real engines (the time that was given for them is over)";; \
	  *) exit 1;; \
	esac

engine-tests: tools
	cargo test $(ALL) --test main -- $(addprefix e2e::,$(ON_ENGINES))
	cargo test $(ALL) --test homes --test simulation --test it -- engines:: views::

engines:                 ## a real Kafka and a real Cassandra on loopback; prints their addresses
	@docker/engines/engines up

engines-stop:            ## ends them
	@docker/engines/engines down

lint: tools              ## format and clippy, where they are installed
	@if cargo fmt --version >/dev/null 2>&1; then cargo fmt --all --check; \
	 else echo "NOT RUN: cargo fmt (rustup component add rustfmt)"; fi
	@if cargo clippy --version >/dev/null 2>&1; then cargo clippy $(ALL) --all-targets -- -D warnings; \
	 else echo "NOT RUN: cargo clippy (rustup component add clippy)"; fi
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check; \
	 else echo "NOT RUN: cargo deny (cargo install cargo-deny)"; fi

bench: build             ## what each room costs, then the real binary under load (BENCH="--open 60")
	cargo bench --locked -p benches --bench micro
	cargo run --release --locked -p benches --bin fajma-bench -- $(BENCH)

bench-engines: build     ## the same on a real Kafka and Cassandra, a process per role, 1, 2 and 4 processors, beside the bare client
	cargo build --release --locked -p benches --bin fajma-bench
	@docker/engines/engines run $(TARGET)/release/fajma-bench --engines $(BENCH); status=$$?; [ $$status -eq 3 ] || exit $$status

bench-registry: build    ## what 100,000 patients, 2,000 practitioners and 200,000 sensors cost
	benches/registry.sh $(abspath $(FAJMA))

bench-backlog: build     ## whether a gateway that drains three days of backlog holds up live sensors
	benches/backlog.sh $(abspath $(FAJMA))

trial-connect: tools     ## Kafka Connect's real worker and Camel's engine into raw topics, from a real Mosquitto; says so where it cannot
	cargo build --locked -p app --bin fajma
	@docker/connect/trial $(TARGET)/debug/fajma; status=$$?; [ $$status -eq 3 ] || exit $$status

sim: tools               ## simulated worlds with faults against a plain oracle (SEEDS=n; FAJMA_SEED=n replays one)
	FAJMA_SEEDS=$(or $(SEEDS),1000) cargo test $(ALL) --test simulation -- --nocapture --skip engines::

simulate: build          ## simulated patients against a running server (SIM="--patients 100 --rate 500 --to http://…")
	$(FAJMA) simulate $(or $(SIM),--patients 10 --rate 20 --to mqtt://127.0.0.1:1883)

kill-loop: tools         ## the server killed 50 times under load, then every promise checked (KILLS=n SEED=n)
	cargo build --locked -p app --bins
	$(TARGET)/debug/fajma-killloop --kills $(or $(KILLS),50) $(if $(SEED),--seed $(SEED))

kill-roles: tools        ## the same on a real Kafka and Cassandra, a process per role, killed and paused (KILLS=n SEED=n BROKERS=3)
	cargo build --locked -p app --bins
	ENGINES_BROKERS=$(or $(BROKERS),1) docker/engines/engines run $(PROVE) --kills $(or $(KILLS),50) $(if $(SEED),--seed $(SEED))

outages: tools           ## the views' database killed for STORE=600 s, then the broker for BROKER=30 s, under load (SEED=n)
	cargo build --locked -p app --bins
	docker/engines/engines run $(PROVE) outages --store $(or $(STORE),600) --broker $(or $(BROKER),30) --every 200 $(if $(SEED),--seed $(SEED))

clocks: tools            ## three brokers' clocks 3 s apart, two doors' off by an hour, one's by 5 s (LASTING=90)
	cargo build --locked -p app --bins
	@ENGINES_BROKERS=3 ENGINES_CLOCKS="-1.5 0 +1.5" docker/engines/engines run $(PROVE) clocks --lasting $(or $(LASTING),90); \
	 status=$$?; [ $$status -eq 3 ] || exit $$status

rebalance: tools         ## how long alerts take while 1 processor becomes 4 and 2 under a steady load (EACH=45 SEED=n)
	cargo build --release --locked -p app --bins
	docker/engines/engines run $(TARGET)/release/fajma-killloop rebalance --each $(or $(EACH),45) $(if $(SEED),--seed $(SEED))

standby: tools           ## how long the next alert takes when the only processor is killed: a standby, a second one, nobody (TIMES=5 SEED=n)
	cargo build --release --locked -p app --bins
	docker/engines/engines run $(TARGET)/release/fajma-killloop standby --times $(or $(TIMES),5) $(if $(SEED),--seed $(SEED))

tools:
	@command -v cc >/dev/null || { echo "No C compiler: sudo apt-get install -y build-essential"; exit 1; }
	@command -v perl >/dev/null || { echo "No perl: sudo apt-get install -y build-essential"; exit 1; }
	@command -v cargo >/dev/null || { echo "No cargo: curl -sSf https://sh.rustup.rs | sh -s -- -y && . ~/.cargo/env"; exit 1; }
