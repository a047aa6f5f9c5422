package bpf

// The objects are committed, so that building the module needs no clang; they
// are little-endian, as is everything the engine supports. TestObjectsAreFresh
// runs these lines where the same clang is present and compares.

//go:generate go tool bpf2go -cc clang-19 -target bpfel -type sfc_counters steer steer.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -nostdinc
//go:generate go tool bpf2go -cc clang-19 -target bpfel pass pass.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -nostdinc
//go:generate go tool bpf2go -cc clang-19 -target bpfel sink sink.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -nostdinc
//go:generate go tool bpf2go -cc clang-19 -target bpfel generate generate.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -nostdinc
