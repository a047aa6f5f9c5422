// Package server serves the daemon's API over HTTP: it lets callers in, says what
// they may do, keeps objects in the store and passes what is asked about the
// data plane on to it. What the objects mean is not its business: others watch
// the store and make it so.
//
//	socket -> limits -> who is it -> may they -> handler -> store, plane
//	                                                |
//	                                                '-> audit log
package server
