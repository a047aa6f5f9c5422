package main

import (
	"log/slog"

	"sfc/ctrl/keeper"
)

// newKernel returns what makes the kernel's half of the engine.
func newKernel(c *config, log *slog.Logger) func(*keeper.Kept) keeper.Kernel {
	return func(kept *keeper.Kept) keeper.Kernel { return keeper.NewHalf(kept, log, c.Interfaces...) }
}
