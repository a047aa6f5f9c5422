package replay

import (
	"errors"
	"fmt"
	"os"

	"sfc/bpf"
	"sfc/ctrl/agent"
	"sfc/dataplane/packet"
	"sfc/testbed/netns"
	"sfc/testbed/trafgen"
)

// live is a replay's world:
//
//	client namespace          engine namespace               server namespace
//	  c0 ------------ veth ---- in  XDP -> XSK -> worker
//	                            out <------ XSK <--+ ------- veth ---- s0
//
// With several workers each has a socket on both ports, and when a chain has a
// way back, the same goes on from s0 to c0.
//
// Everything in it is held by descriptors of this process and gone with it.
type live struct {
	client, engine, server *netns.NS
	in, out                *netns.Link // in the engine's namespace
	c0, s0                 *netns.Link

	data *agent.Engine // the data plane in the engine's namespace

	senders   []*trafgen.Sender   // by port that they send into
	receivers []*trafgen.Receiver // by port
	undo      []func() error
}

func (l *live) push(f func() error) { l.undo = append(l.undo, f) }

func (l *live) close() error {
	var errs []error
	for i := len(l.undo) - 1; i >= 0; i-- {
		errs = append(errs, l.undo[i]())
	}
	l.undo = nil
	return errors.Join(errs...)
}

// keepPrefix begins the names of namespaces that --keep leaves behind.
const keepPrefix = "sfc-"

// openLive builds the world around a data plane and starts its workers.
func openLive(e *agent.Engine, rep *Report, opts Options) (_ *live, err error) {
	l := &live{data: e}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.unpin(), l.close())
		}
	}()
	if err := l.links(); err != nil {
		return nil, err
	}
	if opts.Keep {
		if err := l.keep(); err != nil {
			return nil, err
		}
	}
	if err := l.connect(rep, opts); err != nil {
		return nil, err
	}
	if err := e.Start(); err != nil {
		return nil, err
	}
	return l, l.ends()
}

// links makes the namespaces and the veth pairs between them.
func (l *live) links() (err error) {
	for _, ns := range []**netns.NS{&l.client, &l.engine, &l.server} {
		if *ns, err = netns.New(); err != nil {
			return err
		}
		l.push((*ns).Close)
	}
	opts := netns.VethOptions{MTU: packet.MaxFrame - 14}
	if l.c0, l.in, err = netns.Veth(l.client, "c0", l.engine, ports[portIn], opts); err != nil {
		return err
	}
	l.out, l.s0, err = netns.Veth(l.engine, ports[portOut], l.server, "s0", opts)
	return err
}

// Clean removes what replays with Keep left behind and returns the names.
func Clean() ([]string, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("removing network namespaces needs root: CAP_SYS_ADMIN; run it with sudo")
	}
	return netns.RemoveStale(keepPrefix)
}

// unpin takes back what keep did.
func (l *live) unpin() error {
	var errs []error
	for _, ns := range []*netns.NS{l.client, l.engine, l.server} {
		if ns != nil {
			errs = append(errs, ns.Unpin())
		}
	}
	return errors.Join(errs...)
}

// keep pins the namespaces, after removing what an earlier kept run left.
func (l *live) keep() error {
	if _, err := Clean(); err != nil {
		return err
	}
	for name, ns := range map[string]*netns.NS{"client": l.client, "engine": l.engine, "server": l.server} {
		if err := ns.Pin(keepPrefix + name); err != nil {
			return err
		}
	}
	return nil
}

// connect gives the data plane its ports and notes what is in force.
func (l *live) connect(rep *Report, opts Options) error {
	mode := bpf.Native
	if opts.Generic {
		mode = bpf.Generic
	}
	err := l.engine.Do(func() error {
		return l.data.Connect([]agent.Port{
			{Ifindex: l.in.Index, Mode: mode},
			{Ifindex: l.out.Index, Mode: mode, SendOnly: !twoWay(l.data.Plan())},
		})
	})
	if err != nil {
		return err
	}
	l.push(func() error { return errors.Join(l.data.Stop(), l.explain(rep), l.data.Disconnect()) })
	m := l.data.Mode()
	rep.Mode.Attach, rep.Mode.Bind, rep.Mode.NeedWakeup, rep.Mode.TxBudget = m.Attach[portIn], m.Bind, m.NeedWakeup, m.TxBudget
	rep.Mode.Stack = "tap"
	if m.NoStack != nil {
		rep.Mode.Stack = "none"
		rep.Notes = append(rep.Notes, fmt.Sprintf("packets that functions pass to the kernel are dropped as stack_full: %v", m.NoStack))
	}
	return nil
}

// ends opens both far ends. They poll a receive ring of their own, as real
// interfaces do: a redirect in the kernel needs that, and without it frames
// would go through the core's backlog, which all links of the machine share and
// which loses frames when some other link is flooded.
func (l *live) ends() (err error) {
	far := []*netns.Link{l.c0, l.s0}
	for _, link := range far {
		stub, err := link.EnableNAPI()
		if err != nil {
			return err
		}
		l.push(stub.Close)
	}
	sources := far
	if !twoWay(l.data.Plan()) {
		sources = far[:portOut] // nothing goes into port out
	}
	for _, link := range sources {
		s, err := trafgen.OpenSender(link)
		if err != nil {
			return err
		}
		l.push(s.Close)
		l.senders = append(l.senders, s)
	}
	for _, link := range far {
		r, err := trafgen.OpenReceiver(link)
		if err != nil {
			return err
		}
		l.push(r.Close)
		l.receivers = append(l.receivers, r)
	}
	return nil
}

// runLive sends the capture through a world of its own.
func runLive(e *agent.Engine, f *feed, t *tracker, d *disturbance, rep *Report, opts Options) (err error) {
	l, err := openLive(e, rep, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := t.open(); err != nil {
		return errors.Join(err, l.unpin())
	}
	d.start()
	defer d.stop()
	if err := d.verdict(l.run(f, t, rep, opts)); err != nil {
		return err
	}
	for port := range l.senders {
		if err := l.check(port, t, rep); err != nil {
			return err
		}
	}
	return l.missed(rep)
}

// ErrNotRoot says what a live replay needs.
var ErrNotRoot = errors.New("a live replay needs root: CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_SYS_ADMIN (network namespaces) " +
	"and CAP_IPC_LOCK; run it with sudo, or give --offline, which needs none of them")
