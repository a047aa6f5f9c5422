// SPDX-License-Identifier: Apache-2.0
//
// inet: asserts about sfc_inet.h and sfc_mem.h. It exits with 0 when all hold
// and prints those that do not.
#include <stdio.h>

#include "sfc_inet.h"
#include "sfc_mem.h"

uint8_t *sfc_base;

static int failed;

#define CHECK(what)                                   \
	do {                                              \
		if (!(what)) {                                \
			printf("line %d: %s\n", __LINE__, #what); \
			failed = 1;                               \
		}                                             \
	} while (0)

SFC_HEAP(heap, 1024);

// random is a linear congruential generator (Knuth's MMIX).
static uint64_t seed = 1;
static uint32_t random32(void) { return (seed = seed * 6364136223846793005u + 1442695040888963407u) >> 32; }

static void checksums(void) {
	static const uint8_t rfc1071[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
	CHECK(sfc_check_sum(rfc1071, 8) == (uint16_t)~0xddf2);
	CHECK(sfc_check_replace(0xdd2f, 0x5555, 0x3285) == 0x0000); // RFC 1624 section 4
	for (int i = 0; i < 100000; i++) {
		uint8_t h[20];
		for (int k = 0; k < 20; k++)
			h[k] = (uint8_t)random32();
		sfc_put_be16(h + 10, 0);
		sfc_put_be16(h + 10, sfc_check_sum(h, 20));
		uint32_t old = sfc_be32(h + 12), new = random32();
		sfc_put_be32(h + 12, new);
		sfc_put_be16(h + 10, sfc_check_replace32(sfc_be16(h + 10), old, new));
		CHECK(sfc_check_sum(h, 20) == 0);
		CHECK(sfc_check_sum(h, 19) == sfc_check_sum(h, 20) || h[19] != 0);
	}
}

static bool prefix_is(const char *text, bool ip6, uint64_t hi, uint64_t lo, uint8_t bits) {
	struct sfc_prefix p;
	return sfc_parse_prefix(text, (uint32_t)strlen(text), &p) && p.ip6 == ip6 && p.addr.hi == hi &&
		p.addr.lo == lo && p.bits == bits;
}

static bool refused(const char *text) {
	struct sfc_prefix p;
	return !sfc_parse_prefix(text, (uint32_t)strlen(text), &p);
}

static void prefixes(void) {
	CHECK(prefix_is("10.1.2.3/8", false, 0, 0x0a000000, 8));
	CHECK(prefix_is("255.255.255.255", false, 0, 0xffffffff, 32));
	CHECK(prefix_is("0.0.0.0/0", false, 0, 0, 0));
	CHECK(prefix_is("2001:db8::1/32", true, 0x20010db800000000, 0, 32));
	CHECK(prefix_is("::", true, 0, 0, 128));
	CHECK(prefix_is("::1", true, 0, 1, 128));
	CHECK(prefix_is("1::", true, 0x0001000000000000, 0, 128));
	CHECK(prefix_is("1:2:3:4:5:6:7:8/65", true, 0x0001000200030004, 0, 65));
	CHECK(prefix_is("1:2:3:4:5:6:7::", true, 0x0001000200030004, 0x0005000600070000, 128));
	CHECK(prefix_is("::ffff:192.0.2.1", true, 0, 0xffffc0000201, 128));
	CHECK(prefix_is("FE80::ABCD", true, 0xfe80000000000000, 0xabcd, 128));
	static const char *const bad[] = {"", "/", "10", "10.0.0", "10.0.0.0.0", "10.0.0.256", "10.0.0.01", "10.0.0.0/33",
		"10.0.0.0/", "10.0.0.0/08", "10.0.0.0/8 ", ":", ":::", "1::2::3", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8",
		"12345::", "g::", "::/129", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::1.2.3", "1:2:3:4:5:6:7:1.2.3.4", "fe80::1%eth0"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (!refused(bad[i])) {
			printf("accepted %s\n", bad[i]);
			failed = 1;
		}
}

static void macs(void) {
	uint8_t mac[6];
	CHECK(sfc_parse_mac("02:00:5e:10:Ff:01", 17, mac) && mac[0] == 2 && mac[4] == 0xff && mac[5] == 1);
	CHECK(!sfc_parse_mac("02:00:5e:10:ff:0", 16, mac));
	CHECK(!sfc_parse_mac("02-00-5e-10-ff-01", 17, mac));
	CHECK(!sfc_parse_mac("02:00:5e:10:ff:0g", 17, mac));
}

static void heaps(void) {
	uint8_t *a = sfc_heap_alloc(&heap, 100), *b = sfc_heap_alloc(&heap, 1);
	CHECK(a && b == a + 128 && (uintptr_t)b % 64 == 0);
	CHECK(!sfc_heap_alloc(&heap, 1024));
	CHECK(!sfc_heap_alloc(&heap, (size_t)-1));
	a[0] = 1;
	sfc_heap_shrink(&heap, a, 1);
	CHECK(sfc_heap_alloc(&heap, 1) == a + 64);
	sfc_heap_reset(&heap);
	CHECK(sfc_heap_alloc(&heap, 1024) == a && a[0] == 0);
	CHECK(!sfc_heap_alloc(&heap, 1));
}

static void headers(void) {
	struct sfc_desc d = {.chunk = 0, .off = 256, .len = 60};
	uint8_t chunk[SFC_CHUNK_SIZE];
	sfc_base = chunk;
	CHECK(sfc_header(&d, 256, 60) == chunk + 256);
	CHECK(sfc_header(&d, 296, 20) == chunk + 296);
	CHECK(!sfc_header(&d, 297, 20));
	CHECK(!sfc_header(&d, 255, 1));
	CHECK(!sfc_header(&d, 0, 1));
	CHECK(!sfc_header(&d, 65535, 20));
	d.off = 0;
	CHECK(!sfc_header(&d, 0, 1));
	sfc_drop(&d, 3);
	CHECK(d.verdict == SFC_VERDICT_DROP && d.reason == 3);
	sfc_tx(&d, 7);
	CHECK(d.verdict == SFC_VERDICT_TX && d.reason == 0 && d.out_port == 7);
	sfc_pass(&d);
	CHECK(d.verdict == SFC_VERDICT_PASS);
}

int main(void) {
	checksums();
	prefixes();
	macs();
	heaps();
	headers();
	return failed;
}
