// Package store keeps what the control plane must not lose: desired and
// observed state in buckets of keys, and modules by the hash of their content.
//
//	Store                 a directory, one process at a time
//	 |- Space "system"    the control plane's own
//	 '- Space "acme"      one per tenant, with limits, apart from all others
//	     |- Bucket        key -> value, with compare-and-set, lists and watches
//	     '- Modules       sha256 -> bytes, immutable
//
// It is NATS JetStream, embedded: the server runs in this process and listens
// nowhere unless asked. Nothing outside this package knows of it.
//
// What is promised:
//
//   - A write that returned without an error is on disk (synced) and is there
//     after SIGKILL or loss of power. One that returned an error may or may not
//     be; Get tells. Nothing half-written is ever served.
//   - A write is seen by every Get, List and Watch of this process that begins
//     after it returned.
//   - Order is the order of revisions, which a bucket counts up by itself. No
//     clock decides anything.
//   - Every operation ends within Options.Timeout, or when its context does.
//
// Damage on disk is found when the store is opened (every record carries a
// checksum, every record is read), is named in Store.Damage, and what was found
// is kept under quarantine/ in the store's directory. What is whole serves on.
package store
