# kbqueue: `make serve` and `make test` do everything on a machine with Rust; `make` alone lists the rest.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.PHONY: help setup serve check fix test a11y screenshots corpus

# Tests run package by package, because in one run over the workspace features unify, which hides
# one that a crate forgot to ask for.
packages = cargo tree --locked --workspace --depth 0 --prefix none --format '{p}' | awk 'NF && !seen[$$1]++ { print $$1 }'

help: ## List these targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Install what is missing to build and run (system packages, libpdfium.so).
	@scripts/setup.sh run

serve: setup ## Set up, build and start the reference server; flags: make serve ARGS="--listen 127.0.0.1:9000".
	cargo build --release -p kbqueue-server
	cargo run --quiet --release -p kbqueue-server -- $(ARGS)

check: ## Check formats, lints and docs with every warning denied; changes no file.
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --all-features --no-deps

fix: ## Repair what clippy can repair, and format.
	cargo clippy --workspace --all-targets --all-features --fix --allow-dirty --allow-staged
	cargo fmt --all

test: ## Set up, check, then run every package's tests and doc tests.
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory check
	@list=$$($(packages)); \
	for package in $$list; do \
		echo "cargo test --locked --all-features -p $$package"; \
		cargo test --locked --all-features -p "$$package"; \
	done

axe = target/a11y/node_modules/axe-core/axe.min.js

a11y: ## Look at every page of the dashboard with axe-core (needs npm and the network).
	@scripts/setup.sh test
	@[[ -f $(axe) ]] || npm install --silent --no-audit --no-fund --prefix target/a11y axe-core@4.14.1
	cargo run --locked --quiet -p kbqueue-tests --example a11y -- $(axe)

screenshots: ## Make the pictures of the dashboard that the README shows.
	@scripts/setup.sh test
	cargo run --locked --quiet -p kbqueue-tests --example screenshots -- docs/screenshots

corpus: setup ## Check extraction on a directory of PDFs: make corpus DIR=../corpus WHAT=text.
	cargo run --locked --quiet --release --all-features -p kbqueue-pdf --example corpus -- $(DIR) $(or $(WHAT),outcomes)
