package wasm

import (
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkDeploy is the time from a module's bytes to its first packet: the
// checks, compilation, serialization, loading, an instance and its spare,
// configuration, one burst of one packet.
func BenchmarkDeploy(b *testing.B) {
	for name, config := range map[string]string{
		"acl":       `{"default":"permit","rules":[{"action":"deny","proto":"tcp","dst_ports":"23"}]}`,
		"ratelimit": `{"rate":1000,"burst":1000,"unit":"pps"}`,
		"hop":       `{}`,
		"dnsguard":  `{"block":["ads.example"]}`,
	} {
		b.Run(name, func(b *testing.B) {
			code, err := os.ReadFile(filepath.Join("..", "catalog", name, name+".wasm"))
			if err != nil {
				b.Fatal(err)
			}
			f := &fixture{rt: openRuntime(b), mem: newMemory(b, 64)}
			for b.Loop() {
				m, err := f.rt.Compile(code)
				if err != nil {
					b.Fatal(err)
				}
				if f.group, err = f.rt.NewGroup(f.mem, []Hop{{Name: name, Module: m, Config: []byte(config)}}, GroupOptions{Ports: 2}); err != nil {
					b.Fatal(err)
				}
				f.fill(1, 60)
				f.group.Process(&f.burst)
				b.StopTimer()
				f.group.Close()
				m.Close()
				b.StartTimer()
			}
		})
	}
}
