package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// What is fetched in one second: every size, from each address, by each of the
// parallel clients.
var webSizes = []int{0, 1, 64, 300, 1000, 1448, 1449, 2900, 5000, 9000, 20_000, 64_000}

const (
	webClients = 4
	webRounds  = 3 // of all sizes, by one client
	// Every so many requests a client uploads what it would have fetched,
	// or closes its connection afterwards.
	uploadEvery = 5
	closeEvery  = 7
)

// openWeb starts a web server on port 80.
func openWeb(n *network) (*service, error) {
	listeners, err := n.listen(80)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: http.HandlerFunc(serveBytes), ReadHeaderTimeout: roundTimeout}
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- server.Serve(l) }()
	}
	transport := &http.Transport{DialContext: n.dial, DisableCompression: true, MaxIdleConnsPerHost: webClients}
	client := &http.Client{Transport: transport}
	return &service{
		name: "HTTP",
		say: func(ctx context.Context, counts *Traffic) error {
			return fetchAll(ctx, client, counts)
		},
		close: func() error {
			transport.CloseIdleConnections()
			err := server.Close()
			for range listeners {
				if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
					err = errors.Join(err, e)
				}
			}
			return err
		},
	}, nil
}

// serveBytes sends as many bytes as the path says; what is uploaded is read.
func serveBytes(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the client is gone
	}
	n, err := strconv.Atoi(r.URL.Path[1:])
	if err != nil || n < 0 || n > 1<<20 {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(n))
	// An error means that the client is gone.
	_, _ = w.Write(text(n))
}

// text is n bytes of something to read.
func text(n int) []byte {
	const line = "The quick brown fox jumps over the lazy dog.\n"
	return bytes.Repeat([]byte(line), n/len(line)+1)[:n]
}

// fetchAll runs the parallel clients.
func fetchAll(ctx context.Context, client *http.Client, counts *Traffic) error {
	var mu sync.Mutex // of counts and errs
	var errs []error
	var all sync.WaitGroup
	for _, address := range servers(80) {
		for i := range webClients {
			all.Go(func() {
				requests, sent, err := fetchSizes(ctx, client, address, i)
				mu.Lock()
				defer mu.Unlock()
				counts.HTTPRequests += requests
				counts.HTTPBytes += sent
				if err != nil {
					errs = append(errs, err)
				}
			})
		}
	}
	all.Wait()
	return errors.Join(errs...)
}

// fetchSizes is what one client does.
func fetchSizes(ctx context.Context, client *http.Client, address string, id int) (requests, sent uint64, err error) {
	for i := range webRounds * len(webSizes) {
		if i > 0 && i%len(webSizes) == 0 {
			time.Sleep(10 * time.Millisecond) // somebody reads
		}
		size := webSizes[(i+id)%len(webSizes)]
		method, path, body := http.MethodGet, size, []byte(nil)
		if i%uploadEvery == 0 {
			method, path, body = http.MethodPost, 0, text(size)
		}
		req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://%s/%d", address, path), bytes.NewReader(body))
		if err != nil {
			return requests, sent, err
		}
		req.Close = i%closeEvery == closeEvery-1
		got, err := fetch(client, req)
		if err != nil {
			return requests, sent, err
		}
		if got != int64(path) {
			return requests, sent, fmt.Errorf("%s %s: %d bytes came back", method, req.URL, got)
		}
		requests++
		sent += uint64(size)
	}
	return requests, sent, nil
}

// fetch makes a request and returns how many bytes the answer's body has.
func fetch(client *http.Client, req *http.Request) (n int64, err error) {
	answer, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s %s: status %s", req.Method, req.URL, answer.Status)
	}
	return io.Copy(io.Discard, answer.Body)
}
