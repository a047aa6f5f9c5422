package reconcile

import (
	"math/rand/v2"
	"time"
)

// backoff is how long to wait after so many attempts that failed, from 1: twice
// as long each time, up to most, and a quarter more or less, so that what failed
// together is not tried again together.
func backoff(first, most time.Duration, attempts int) time.Duration {
	d := most
	if attempts < 30 && first<<(attempts-1) < most {
		d = first << (attempts - 1)
	}
	return d - d/4 + rand.N(d/2+1)
}
