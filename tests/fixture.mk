# Small programs that tests talk to. Plain builds: they are not what is tested.
FIXTURE_C := $(wildcard tests/fixture/*.c)
FIXTURES  := $(FIXTURE_C:tests/fixture/%.c=$(OUT)/fixture/%)

.PHONY: fixtures
fixtures: $(FIXTURES)

$(OUT)/fixture/%: tests/fixture/%.c tests/fixture.mk
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -O1 -g $(WARN) -o $@ $< -lpthread
