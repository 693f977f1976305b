# Needs python3 >= 3.11 and make. Everything else is installed by `make setup`.
.PHONY: setup demo test check bench soak docs lock test-moshi test-local
BIN := .venv/bin
STAMP := .venv/.installed
PARTS := packages/spreed-signaling packages/kyutai-stream apps/live-transcription modal

setup: $(STAMP)

$(STAMP): requirements/dev.txt $(addsuffix /pyproject.toml,$(PARTS)) tools/setup.sh
	sh tools/setup.sh python

demo: $(STAMP)
	sh tools/setup.sh servers
	$(BIN)/live-transcription demo

test: $(STAMP)
	sh tools/setup.sh servers browser
	$(BIN)/python tools/run_tests.py

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

lock: $(STAMP)
	sh tools/setup.sh lock

# Each says when a limit is missed; the others run all the same.
bench: $(STAMP)
	-$(BIN)/python -m benchmarks.stt_client
	-$(BIN)/python -m benchmarks.gateway
	-$(BIN)/python -m benchmarks.receive_path --seconds 5
	-$(BIN)/python -m benchmarks.receive_janus --seconds 5

soak: $(STAMP)
	$(BIN)/python -m benchmarks.soak_stt
	$(BIN)/python -m benchmarks.soak_receive

# The real Rust server: built once into the user's cache (about 10 minutes).
test-moshi: $(STAMP)
	sh tools/setup.sh servers moshi
	$(BIN)/python tools/run_tests.py -m moshi tests/real/moshi tests/kyutai_gateway tests/end_to_end

test-local:
	sh tools/test_local.sh
