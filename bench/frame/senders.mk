# Programs that a benchmark sends with, one of each .cc of its folder: make -C bench/NAME, then build/PROGRAM.
FLAGS := -std=c++20 -O2 -Wall -Wextra -Werror
NAMES := $(basename $(wildcard *.cc))

.PHONY: all clean
all: $(addprefix build/,$(NAMES))

build/%: %.cc
	@mkdir -p $(@D)
	$(CXX) $(FLAGS) $< -o $@

clean:
	rm -rf build
