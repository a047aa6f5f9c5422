package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// raw makes a request by the unix socket that no client would.
func (w *world) raw(tb testing.TB, method, path, media string, body io.Reader) (status int, data []byte, header http.Header) {
	tb.Helper()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(w.dir, "s"))
	}}
	defer transport.CloseIdleConnections()
	req := must[*http.Request](tb)(http.NewRequestWithContext(tb.Context(), method, "http://sfcd"+path, body))
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	resp := must[*http.Response](tb)(transport.RoundTrip(req))
	defer resp.Body.Close()
	return resp.StatusCode, must[[]byte](tb)(io.ReadAll(resp.Body)), resp.Header
}

// expire makes a token's time be over.
func (w *world) expire(tb testing.TB, tenant, name string) {
	tb.Helper()
	bucket := must[*store.Bucket](tb)(w.spaces.system.Bucket(tb.Context(), api.BucketTokens))
	e := must[store.Entry](tb)(bucket.Get(api.TokenKey(tenant, name)))
	var record tokenRecord
	if err := json.Unmarshal(e.Value, &record); err != nil {
		tb.Fatal(err)
	}
	record.Hashes[0].ExpiresAt = time.Now().Add(-time.Second)
	must[uint64](tb)(bucket.Update(tb.Context(), e.Key, must[[]byte](tb)(json.Marshal(&record)), e.Revision))
}

// rawTokens is what is stored of tokens.
func (w *world) rawTokens() (values []string, err error) {
	bucket, err := w.spaces.system.Bucket(context.Background(), api.BucketTokens)
	if err != nil {
		return nil, err
	}
	page, err := bucket.List("", 0, "")
	for _, e := range page.Entries {
		values = append(values, string(e.Value))
	}
	return values, err
}

// asProblemOf finds the problem in an error.
func asProblemOf(err error, p **api.Problem) (ok bool) { return errors.As(err, p) }
