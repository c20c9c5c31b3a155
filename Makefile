.PHONY: up test lint
up:
	cargo run --release -p app -- up
test:
	cargo test --workspace
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
