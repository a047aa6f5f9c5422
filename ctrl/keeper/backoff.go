package keeper

import "time"

// Backoff says when a child that died is started again: the first time at once,
// then after First, twice that, and so on up to Max. Only deaths within Window
// count. With Crashes of them there is an alarm.
type Backoff struct {
	First, Max time.Duration // defaults 100 ms, 30 s
	Window     time.Duration // default 5 min
	Crashes    int           // default 5
}

func (b Backoff) withDefaults() Backoff {
	if b.First == 0 {
		b.First = 100 * time.Millisecond
	}
	if b.Max == 0 {
		b.Max = 30 * time.Second
	}
	if b.Window == 0 {
		b.Window = 5 * time.Minute
	}
	if b.Crashes == 0 {
		b.Crashes = 5
	}
	return b
}

// deaths are those of a child that count, in order.
type deaths []time.Time

// add adds one, and returns how long to wait and whether that is an alarm.
func (d *deaths) add(now time.Time, b Backoff) (wait time.Duration, alarm bool) {
	d.forget(now, b)
	*d = append(*d, now)
	n := len(*d)
	for i := 1; i < n && wait < b.Max; i++ {
		wait = max(b.First, 2*wait)
	}
	return min(wait, b.Max), n >= b.Crashes
}

// forget drops those that count no longer; with none left there is no alarm.
func (d *deaths) forget(now time.Time, b Backoff) {
	for len(*d) > 0 && now.Sub((*d)[0]) > b.Window {
		*d = (*d)[1:]
	}
}
