//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"go.uber.org/goleak"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/clienttest"
	"github.com/thawhttp/thaw/lambdatest"
)

// The environment variables of a function: which one it is, and the URL of its downstream.
const (
	functionKey   = "E2E_FUNCTION"
	downstreamKey = "E2E_DOWNSTREAM"
)

// An invocation is what a function does: something with its SDK that no other invocation does, told apart by n.
type invocation func(ctx context.Context, n int) error

// functions are the programs that the tests freeze. Each makes its SDK's client outside of the handler, in the way of
// docs/sdks.md: a test in policy_test.go compares them.
var functions = map[string]func(url string) (invocation, error){
	"stripe-go":     stripeFunction,
	"S3":            s3Function,
	"DynamoDB":      dynamoDBFunction,
	"connect-go":    connectFunction,
	"WebSocket":     webSocketFunction,
	"ReverseProxy":  reverseProxyFunction,
	"minio-go":      minioFunction,
	"go-github":     githubFunction,
	"OAuth2":        oauth2Function,
	"Elasticsearch": elasticsearchFunction,
	"GraphQL":       graphqlFunction,
	"DefaultClient": defaultClientFunction,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(functionKey); name != "" {
		if err := serve(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	client.Default().CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left after the tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}

type event struct{ N int }

// serve is the function.
func serve(name string) error {
	invoke, err := functions[name](os.Getenv(downstreamKey))
	if err != nil {
		return err
	}
	lambda.Start(func(ctx context.Context, e event) (string, error) { return "done", invoke(ctx, e.N) })
	return nil
}

// survives runs the function of that name with d for its downstream. It expects each invocation to succeed: with
// so many connections as long as nothing is broken, and after each freeze in which they are, with as many new ones.
func survives(t *testing.T, name string, d *clienttest.Server, conns int) {
	t.Helper()
	survivesDialling(t, name, d, conns, 0)
}

// survivesDialling is survives of a function that opens so many more connections in each invocation.
func survivesDialling(t *testing.T, name string, d *clienttest.Server, conns, each int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{functionKey + "=" + name, downstreamKey + "=" + d.URL}
	if pem := d.RootPEM(); pem != nil {
		file := filepath.Join(t.TempDir(), "root.pem")
		if err := os.WriteFile(file, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		env = append(env, "SSL_CERT_FILE="+file)
	}
	fn, err := lambdatest.Start(t.Context(), lambdatest.Config{
		Path: self, Env: env, Timeout: 30 * time.Second, InitTimeout: 30 * time.Second,
		Stderr: testWriter{t},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fn.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	n := 0
	send := func() *lambdatest.Pending {
		payload, err := json.Marshal(event{n})
		n++
		if err != nil {
			t.Fatal(err)
		}
		p, err := fn.Send(payload)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	succeed := func(p *lambdatest.Pending, when string) {
		t.Helper()
		res, err := p.Wait(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if res.Err != nil {
			t.Fatalf("%s: %v\n%v", when, res.Err, d)
		}
	}
	succeed(send(), "cold")
	succeed(send(), "warm")
	d.AssertConnections(t, conns+n*each)
	broken := 0
	for _, freeze := range []struct {
		name   string
		breaks func() int
	}{{"nothing", func() int { return 0 }}, {"closed", d.CloseIdle}, {"reset", d.ResetIdle}} {
		when := "frozen, connections: " + freeze.name
		if err := fn.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		broken += freeze.breaks()
		p := send()
		if err := fn.Thaw(); err != nil {
			t.Fatal(err)
		}
		succeed(p, when)
		succeed(send(), when+", then warm")
		d.AssertConnections(t, conns+broken+n*each)
	}
	if broken == 0 {
		t.Errorf("no connection was idle when the function was frozen:\n%v", d)
	}
	d.AssertNoRequestTwice(t)
}

// testWriter writes what a function has to say to the test's log.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("function: %s", p)
	return len(p), nil
}
