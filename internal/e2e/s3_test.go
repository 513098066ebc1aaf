//go:build linux

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
)

// fakeS3 emulates S3, with one bucket.
func fakeS3(t *testing.T) http.Handler {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("pies"); err != nil {
		t.Fatal(err)
	}
	return gofakes3.New(backend).Server()
}

var creds = credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")

func newS3(url string, change ...func(*s3.Options)) *s3.Client {
	options := s3.Options{
		Region:           "eu-central-1",
		Credentials:      creds,
		HTTPClient:       client.Default(),
		RetryMaxAttempts: 1, // thaw retries, what it can
	}
	options.BaseEndpoint, options.UsePathStyle = &url, true
	return s3.New(options, change...)
}

func s3Function(url string) (invocation, error) {
	api := newS3(url)
	return func(ctx context.Context, n int) error {
		key, want := aws.String(fmt.Sprint("pie-", n)), bytes.Repeat([]byte{byte(n)}, 100_000)
		if _, err := api.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("pies"), Key: key, Body: bytes.NewReader(want)}); err != nil {
			return err
		}
		out, err := api.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("pies"), Key: key})
		if err != nil {
			return err
		}
		defer out.Body.Close()
		got, err := io.ReadAll(out.Body)
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%d bytes came back as %d others", len(want), len(got))
		}
		return err
	}, nil
}

func TestS3(t *testing.T) {
	survives(t, "S3", clienttest.Downstream(t, clienttest.WithHandler(fakeS3(t))), 1)
}

func TestS3IsRetriedByThawAlone(t *testing.T) {
	for _, tt := range []struct {
		name     string
		change   func(*s3.Options)
		requests int
	}{
		{"one retries", func(*s3.Options) {}, 3},
		// What the documentation warns of.
		{"both retry", func(o *s3.Options) {
			o.RetryMaxAttempts = 0
			o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
		}, 3 * 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := clienttest.Downstream(t, clienttest.WithProtocol(clienttest.HTTP1))
			d.Every(clienttest.RetryLater(503, 0))
			api := newS3(d.URL, tt.change)
			if _, err := api.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("pies"), Key: aws.String("apple")}); err == nil {
				t.Error("answered by a service that is unavailable")
			}
			d.AssertRequests(t, tt.requests)
			d.AssertConnections(t, 1)
		})
	}
}

// The requests of the AWS SDK have no GetBody, so of those with a body only the SDK can make others.
func TestThawCannotRetryWhatTheAWSSDKWrites(t *testing.T) {
	d := clienttest.Downstream(t, clienttest.WithProtocol(clienttest.HTTP1))
	d.Every(clienttest.RetryLater(503, 0))
	input := &s3.PutObjectInput{Bucket: aws.String("pies"), Key: aws.String("apple"), Body: strings.NewReader("a pie")}
	if _, err := newS3(d.URL).PutObject(t.Context(), input); err == nil {
		t.Error("answered by a service that is unavailable")
	}
	d.AssertRequests(t, 1)
}
