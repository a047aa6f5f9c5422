package xsk

// TxDrained says whether the kernel has taken every frame given to Transmit:
// what another socket of the queue sends from now on comes after them.
func (xsk *Socket) TxDrained() bool { return xsk.tx.waiting() == 0 }
