// Command client makes a chain by a client that was generated from the API's
// document, reads and deletes it.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"generated/gen"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, socket, tenant string) error {
	c, err := gen.NewClientWithResponses("http://sfcd", gen.WithHTTPClient(&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}))
	if err != nil {
		return err
	}
	port := "in"
	made, err := c.CreateChainWithResponse(ctx, tenant, gen.Chain{
		Metadata: gen.Metadata{Name: "edge"},
		Spec:     gen.ChainSpec{Match: &[]gen.ChainMatch{{Port: &port}}, Egress: "out", Functions: []gen.ChainFunction{}},
	})
	if err != nil {
		return err
	}
	if made.JSON201 == nil {
		return fmt.Errorf("create: %s\n%s", made.Status(), made.Body)
	}
	fmt.Printf("created %s, generation %d\n", made.JSON201.Metadata.Name, *made.JSON201.Metadata.Generation)
	read, err := c.GetChainWithResponse(ctx, tenant, "edge")
	if err != nil {
		return err
	}
	if read.JSON200 == nil {
		return fmt.Errorf("read: %s\n%s", read.Status(), read.Body)
	}
	fmt.Printf("read %s, egress %s\n", read.JSON200.Metadata.Name, read.JSON200.Spec.Egress)
	none, err := c.GetChainWithResponse(ctx, tenant, "none")
	if err != nil {
		return err
	}
	if p := none.ApplicationproblemJSONDefault; p == nil {
		return fmt.Errorf("read what is not there: %s\n%s", none.Status(), none.Body)
	} else {
		fmt.Printf("refused: %d %s\n", p.Status, *p.Reason)
	}
	gone, err := c.DeleteChainWithResponse(ctx, tenant, "edge", &gen.DeleteChainParams{})
	if err != nil {
		return err
	}
	if gone.StatusCode()/100 != 2 {
		return fmt.Errorf("delete: %s\n%s", gone.Status(), gone.Body)
	}
	fmt.Println("deleted edge")
	return nil
}
