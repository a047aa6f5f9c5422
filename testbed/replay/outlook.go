package replay

import "time"

// outlook watches that packets meet their fate.
type outlook struct {
	t        *tracker
	src      *source
	progress func(done, total int)
	last     uint64
	at       time.Time // when the last one did
}

func newOutlook(t *tracker, src *source, opts Options) *outlook {
	return &outlook{t: t, src: src, progress: opts.Progress, at: time.Now()}
}

// look is called again and again, without much delay. It sorts damaged packets
// out when nothing else moves, and gives those up that will not come. It
// reports whether nothing is under way.
func (o *outlook) look() (idle bool) {
	idle = o.t.idle()
	switch now := o.t.progress(); {
	case now != o.last:
		o.last, o.at = now, time.Now()
		o.progress(int(now), o.src.total())
	case idle:
		o.at = time.Now()
	case time.Since(o.at) > settleTimeout && o.t.reconcile():
	case time.Since(o.at) > stallTimeout:
		// Whatever this was, it will not come: it is lost, go on.
		o.t.giveUp()
		o.at = time.Now()
	}
	return idle
}
