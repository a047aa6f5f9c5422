package nf

import "fmt"

// memory checks that the one memory leaves the window where the engine maps it
// and ends where the limit says.
func (c *check) memory() {
	imported := c.m.imported[KindMemory]
	if n := imported + len(c.m.Memories); n != 1 {
		c.refuse(ErrMemory, "a function has exactly one, with a maximum, exported as "+ExportMemory, "%d memories", n)
	}
	if len(c.m.Memories) == 0 {
		return // none, or imported: refused above or with the imports
	}
	if e, ok := c.m.export(ExportMemory); !ok || e.Kind != KindMemory || int(e.Index) != imported {
		c.refuse(ErrExport, "export the memory under that name", "missing export %q", ExportMemory)
	}
	mem := c.m.Memories[0]
	if mem.Shared {
		c.refuse(ErrMemory, "link without --shared-memory: functions have one thread", "shared memory")
	}
	if mem.Is64 {
		c.refuse(ErrMemory, "compile for wasm32", "64-bit memory")
		return
	}
	first := uint64(DataStart / PageBytes)
	last := first + uint64(c.limits.PrivateBytes)/PageBytes
	cure := fmt.Sprintf("at most %d pages, %d bytes above the window, are allowed: link with --max-memory=%d",
		last, c.limits.PrivateBytes, last*PageBytes)
	if mem.Pages.Min < first {
		c.refuse(ErrMemory, fmt.Sprintf("the engine's window ends at page %d: link with --global-base=%d", first, DataStart),
			"memory of %d pages is too small", mem.Pages.Min)
	}
	if mem.Pages.Min > last {
		c.refuse(ErrLimit, cure, "memory over the limit: starts with %d pages", mem.Pages.Min)
	}
	switch {
	case !mem.Pages.HasMax:
		c.refuse(ErrMemory, cure, "memory without a maximum")
	case mem.Pages.Max > last && mem.Pages.Min <= last:
		c.refuse(ErrLimit, cure, "memory over the limit: may grow to %d pages", mem.Pages.Max)
	}
}

// data checks that instantiation writes nothing below DataStart, where the
// window and other functions' packets are.
func (c *check) data() {
	for i, d := range c.m.Data {
		if d.Passive {
			continue
		}
		switch {
		case !d.Offset.Known:
			c.refuse(ErrData, "link statically, without -shared or -pie", "data segment %d: its offset is not a constant", i)
		case uint32(d.Offset.Value) < DataStart:
			c.refuse(ErrData, fmt.Sprintf("below %#x is the engine's window: link with --global-base=%d", DataStart, DataStart),
				"data segment %d inside the window: %d bytes at %#x", i, d.Len, uint32(d.Offset.Value))
		case len(c.m.Memories) == 1 && d.Offset.Value+uint64(d.Len) > c.m.Memories[0].Pages.Min*PageBytes:
			c.refuse(ErrData, "instantiation would trap: enlarge the initial memory", "data segment %d past the memory: %d bytes at %#x", i, d.Len, uint32(d.Offset.Value))
		}
	}
}

// stack checks that the stack, which grows down, does not run through the
// window.
func (c *check) stack() {
	sp, ok := c.m.StackPointer()
	switch {
	case !ok || sp > DataStart:
	case sp > WindowStart:
		c.refuse(ErrStack, "link with --stack-first, or let the stack follow the data", "stack inside the window: starts at %#x", sp)
	case sp > uint32(c.limits.StackBytes):
		c.refuse(ErrLimit, fmt.Sprintf("at most %d are allowed: link with -z stack-size=%d", c.limits.StackBytes, c.limits.StackBytes),
			"stack of %d bytes", sp)
	}
}

// sizes checks the limits that bound compile time and host memory.
func (c *check) sizes() {
	limit := func(have, most int, what string) {
		if have > most {
			c.refuse(ErrLimit, fmt.Sprintf("at most %d are allowed", most), "%d %s", have, what)
		}
	}
	limit(c.m.Size, c.limits.ModuleBytes, "bytes of module")
	limit(c.m.Functions, c.limits.Functions, "functions")
	limit(c.m.LargestBody, c.limits.FunctionBytes, "bytes in one function")
	if c.m.Flow > c.limits.Flow {
		c.refuse(ErrLimit, fmt.Sprintf("at most %d are allowed: split functions with many loops, or do not inline so much", c.limits.Flow),
			"loops * (locals + loops) of all functions are %d", c.m.Flow)
	}
	elements := uint64(0)
	for i, t := range c.m.Tables {
		if !t.HasMax {
			c.refuse(ErrLimit, "link without --growable-table", "table %d without a maximum", i)
		}
		elements += max(t.Min, t.Max)
	}
	limit(int(elements), c.limits.TableElements, "table elements")
}
