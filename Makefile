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

# Named in the plan, without content yet: they say so and fail.
bench soak test-moshi test-local:
	@echo "make $@: nothing here yet (see CHANGELOG.md, Unreleased)" >&2; exit 1
