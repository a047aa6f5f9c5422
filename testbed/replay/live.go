package replay

import (
	"context"
	"errors"
	"fmt"
	"os"

	"sfc/bpf"
	"sfc/chains"
	"sfc/dataplane"
	"sfc/dataplane/classify"
	"sfc/dataplane/cpu"
	"sfc/dataplane/packet"
	"sfc/dataplane/xsk"
	"sfc/testbed/netns"
	"sfc/testbed/trafgen"
)

// live is a replay's world:
//
//	client namespace          engine namespace               server namespace
//	  c0 ------------ veth ---- in  XDP -> XSK -> worker
//	                            out <------ XSK <--+ ------- veth ---- s0
//
// Everything in it is held by descriptors of this process and gone with it.
type live struct {
	client, engine, server *netns.NS
	in, out                *netns.Link // in the engine's namespace
	c0, s0                 *netns.Link

	steer   *bpf.Steering
	umem    *xsk.UMEM
	sockets []*xsk.Socket
	stack   *dataplane.Tap
	worker  *dataplane.Worker

	sender    *trafgen.Sender
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

// openLive builds the world and starts the worker.
func openLive(e *engine, t *tracker, rep *Report, opts Options) (_ *live, err error) {
	l := &live{}
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
	if err := l.engine.Do(func() error { return l.attach(e, rep, opts) }); err != nil {
		return nil, err
	}
	if err := l.start(e, t, rep, opts); err != nil {
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

// policies translates the plan's word for the steering program.
var policies = map[chains.Unmatched]classify.Policy{
	chains.UnmatchedPass:    classify.Pass,
	chains.UnmatchedForward: classify.Forward,
	chains.UnmatchedDrop:    classify.Drop,
}

// attach loads the steering, opens the sockets and connects the two. It runs
// in the engine's namespace.
func (l *live) attach(e *engine, rep *Report, opts Options) (err error) {
	cfg := bpf.Config{Table: e.table, HashKey: e.key}
	links := []*netns.Link{l.in, l.out}
	for i, p := range e.plan.Ports {
		cfg.Ports = append(cfg.Ports, bpf.PortConfig{
			Ifindex: links[i].Index, Unmatched: policies[p.Unmatched], Pair: max(p.Forward, 0),
		})
	}
	if l.steer, err = bpf.Load(cfg); err != nil {
		return err
	}
	l.push(l.steer.Close)
	mode := bpf.Native
	if opts.Generic {
		mode = bpf.Generic
	}
	inForce, err := l.steer.Attach(portIn, mode)
	if err != nil {
		return err
	}
	rep.Mode.Attach = inForce.String()

	if l.umem, err = xsk.NewUMEM(e.region.Bytes(), e.pool); err != nil {
		return err
	}
	for i, link := range links {
		s, err := xsk.Open(l.umem, link.Index, 0, xsk.Options{})
		if err != nil {
			return fmt.Errorf("port %s: %w", ports[i], err)
		}
		l.push(s.Close)
		l.sockets = append(l.sockets, s)
	}
	info := l.sockets[portIn].Info()
	rep.Mode.Bind, rep.Mode.NeedWakeup, rep.Mode.TxBudget = info.String(), info.NeedWakeup, int(info.TxBudget)
	if err := l.steer.SetSocket(portIn, 0, l.sockets[portIn].PollFD()); err != nil {
		return err
	}
	if l.stack, err = dataplane.OpenTap("sfc-stack"); err != nil {
		// Without a TAP device only the verdict Pass has nowhere to go.
		rep.Mode.Stack = "none"
		rep.Notes = append(rep.Notes, fmt.Sprintf("packets that functions pass to the kernel are dropped as stack_full: %v", err))
		return nil
	}
	rep.Mode.Stack = "tap"
	l.push(l.stack.Close)
	return nil
}

// start starts the worker.
func (l *live) start(e *engine, t *tracker, rep *Report, opts Options) (err error) {
	cfg := e.workerConfig(t, opts)
	for _, s := range l.sockets {
		cfg.Ports = append(cfg.Ports, s)
	}
	if l.stack != nil {
		cfg.Stack = l.stack
	}
	if cores := cpu.Allowed(); len(cores) > 0 {
		cfg.Core = cores[len(cores)-1]
	}
	if l.worker, err = dataplane.NewWorker(cfg); err != nil {
		return err
	}
	rep.Mode.Workers, rep.Mode.Core = 1, cfg.Core
	if err := l.worker.Start(); err != nil {
		return err
	}
	l.push(func() error {
		err := l.worker.Stop()
		rep.Worker = workerReport(l.worker.Counters())
		return errors.Join(err, l.worker.Verify(), l.explain(rep))
	})
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
	if l.sender, err = trafgen.OpenSender(l.c0); err != nil {
		return err
	}
	l.push(l.sender.Close)
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
func runLive(ctx context.Context, e *engine, src *source, t *tracker, rep *Report, opts Options) (err error) {
	l, err := openLive(e, t, rep, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := t.open(); err != nil {
		return errors.Join(err, l.unpin())
	}
	if err := l.run(ctx, src, t, rep, opts, &steering{table: e.table, port: e.plan.Ports[portIn]}); err != nil {
		return err
	}
	return l.check(t, rep)
}

// ErrNotRoot says what a live replay needs.
var ErrNotRoot = errors.New("a live replay needs root: CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_SYS_ADMIN (network namespaces) " +
	"and CAP_IPC_LOCK; run it with sudo, or give --offline, which needs none of them")
