// Package scenario shows what chains do, one small file per behaviour: a chain,
// the packets that go in, the packets that must come out, and the numbers the
// report must have. Its test runs every file in testdata offline and, as root,
// live through XDP and AF_XDP; both must give exactly what the file says.
//
// testdata/README.md tells how to add one. The idea is Click's .clicktest.
package scenario
