//go:build ignore

// Gen builds every function of the catalogue. Run it with go generate.
package main

import (
	"log"

	"sfc/nf/build"
	"sfc/nf/catalog"
)

func main() {
	for _, name := range catalog.Names {
		path, err := build.Build(name)
		if err != nil {
			log.Fatal(err)
		}
		log.Println(path)
	}
}
