//go:build linux

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
)

func newMinIO(endpoint string, secure bool) (*minio.Client, error) {
	creds := credentials.NewStaticV4("AKIDEXAMPLE", "secret", "")

	api, err := minio.New(endpoint, &minio.Options{
		Creds:      creds,
		Secure:     secure,
		Transport:  client.Default().Client.Transport,
		MaxRetries: 1, // thaw retries
	})
	return api, err
}

func minioFunction(url string) (invocation, error) {
	api, err := newMinIO(strings.TrimPrefix(url, "https://"), true)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, n int) error {
		key, want := fmt.Sprint("pie-", n), bytes.Repeat([]byte{byte(n)}, 100_000)
		if _, err := api.PutObject(ctx, "pies", key, bytes.NewReader(want), int64(len(want)), minio.PutObjectOptions{}); err != nil {
			return err
		}
		out, err := api.GetObject(ctx, "pies", key, minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		defer out.Close()
		got, err := io.ReadAll(out)
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%d bytes came back as %d others", len(want), len(got))
		}
		return err
	}, nil
}

func TestMinIO(t *testing.T) {
	survives(t, "minio-go", clienttest.Downstream(t, clienttest.WithHandler(fakeS3(t))), 1)
}

func TestMinIOIsRetriedByThawAlone(t *testing.T) {
	d := clienttest.Downstream(t, clienttest.WithProtocol(clienttest.HTTP1))
	d.Every(clienttest.RetryLater(503, 0))
	api, err := newMinIO(strings.TrimPrefix(d.URL, "http://"), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.ListBuckets(t.Context()); err == nil {
		t.Error("answered by a service that is unavailable")
	}
	d.AssertRequests(t, 3)
}
