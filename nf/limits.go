package nf

// Limits bound what one module may ask for. The zero value of a field selects
// its default.
type Limits struct {
	// ModuleBytes is the largest module in bytes. Default 4 MiB; compiling
	// takes time and memory in proportion.
	ModuleBytes int
	// PrivateBytes is how far a module's memory may reach above [DataStart],
	// in bytes. Default 16 MiB. It bounds host memory.
	PrivateBytes int
	// StackBytes is the most a module's stack may use below [WindowStart], in
	// bytes. Default 1 MiB.
	StackBytes int
	// TableElements is the most elements all tables of a module may ever
	// hold. Default 10,000, at 8 bytes each.
	TableElements int
	// Functions is the most functions a module may define. Default 20,000.
	Functions int
	// FunctionBytes is the longest body of one function in bytes. Default
	// 256 KiB: register allocation grows faster than the body.
	FunctionBytes int
	// Flow is the most a module's [Module.Flow] may be. Default 500,000:
	// compiled in at most some 8 s of CPU time, where honest modules have
	// less than a tenth.
	Flow int
}

// WithDefaults returns l with every zero field replaced by its default.
func (l Limits) WithDefaults() Limits {
	def := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	def(&l.ModuleBytes, 4<<20)
	def(&l.PrivateBytes, 16<<20)
	def(&l.StackBytes, 1<<20)
	def(&l.TableElements, 10_000)
	def(&l.Functions, 20_000)
	def(&l.FunctionBytes, 256<<10)
	def(&l.Flow, 500_000)
	return l
}
