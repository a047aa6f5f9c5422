package flow

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// testSeed returns the seed of random tests: TEST_SEED, else the clock. It is
// logged, so that a failure can be seen again.
func testSeed(tb testing.TB) uint64 {
	tb.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			tb.Fatalf("TEST_SEED=%q: %v", text, err)
		}
	}
	tb.Logf("TEST_SEED=%d", seed)
	return seed
}
