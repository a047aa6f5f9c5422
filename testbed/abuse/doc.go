// Package abuse holds the engine to its limits: what an attacker, a crowd or a
// slow function may cost, and whom. Its tests run the real engine, chains and
// functions of the catalogue included, with ports in memory: a played steering
// program shares packets out to the workers as XDP does, and every packet is
// accounted for,
//
//	sent = received + passed + dropped, by named reason
//
// for the attack and for the traffic that has to survive it apart.
//
// docs/limits.md has the figures that the tests log.
package abuse
