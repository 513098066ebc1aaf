package xray_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/aws/aws-xray-sdk-go/v2/header"
	awsxray "github.com/aws/aws-xray-sdk-go/v2/xray"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/tracing/xray"
	"github.com/thawhttp/thaw/transport"
)

// childEnv makes the test binary make a request without a segment, because the SDK reads its environment when the program starts.
const childEnv = "XRAY_TEST_CHILD"

// child prints what became of the request.
func child() {
	c, err := client.New(client.WithTracer(xray.New()), client.WithBase(roundTripper(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: req.Header, Body: http.NoBody}, nil
	})))
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := c.Get("https://api.example.com/")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(resp.StatusCode, resp.Header)
}

// Not parallel: it forks.
func TestWithoutASegmentNothingHappensWhateverContextMissingSays(t *testing.T) {
	d := listen(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, missing := range []string{"RUNTIME_ERROR", "LOG_ERROR", "IGNORE_ERROR", "nonsense", ""} {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), childEnv+"=1", "AWS_XRAY_CONTEXT_MISSING="+missing, "AWS_XRAY_DAEMON_ADDRESS="+d.Addr())
		out, err := cmd.CombinedOutput()
		if string(out) != "200 map[]" || err != nil {
			t.Errorf("AWS_XRAY_CONTEXT_MISSING=%s: %v, and the program wrote %q, want only the status and no header", missing, err, out)
		}
	}
	if docs := d.documents(t); len(docs) != 0 {
		t.Errorf("documents %+v, want none", docs)
	}
}

// Not parallel: it sets the environment.
func TestWithTheSDKDisabledTheHeaderIsPassedOn(t *testing.T) {
	const (
		incoming = lambdaHeader + ";Lineage=1:a1b2c3d4:0"
		own      = "Root=1-00000000-000000000000000000000001"
	)
	for _, disabled := range []string{"true", "TRUE"} {
		t.Setenv("AWS_XRAY_SDK_DISABLED", disabled)
		d := listen(t)
		srv := serve(t, "h1", echoTrace, transport.Config{})
		segment, seg := awsxray.BeginSegment(d.context(t, true), "program")
		below, _ := awsxray.BeginSubsegment(inLambda(segment, incoming), "work")
		served, _ := awsxray.NewSegmentFromHeader(d.context(t, true), "program", srv.newRequest(t, t.Context(), "/"), header.FromString(lambdaHeader))
		for _, c := range []struct {
			name   string
			ctx    context.Context
			caller string // the header that the caller sets
			want   string
		}{
			{"lambda", inLambda(d.context(t, true), incoming), "", incoming},
			{"lambda, below a subsegment", below, "", incoming},
			{"lambda, with a header of the caller", inLambda(d.context(t, true), incoming), own, own},
			{"segment", segment, "", ""},
			{"segment of a request that is served", served, "", lambdaHeader},
			{"plain program", d.context(t, true), "", ""},
			{"plain program, with a header of the caller", d.context(t, true), own, own},
		} {
			req := srv.newRequest(t, c.ctx, "/")
			if c.caller != "" {
				req.Header.Set(awsxray.TraceIDHeaderKey, c.caller)
			}
			resp, err := srv.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(got) != c.want {
				t.Errorf("%s: the request was sent with the trace header %q, want %q", c.name, got, c.want)
			}
		}
		seg.Close(nil)
		if docs := d.documents(t); len(docs) != 0 {
			t.Errorf("documents %+v, want none", docs)
		}
	}
}

// A program may switch the SDK off and on. Not parallel: it sets the environment.
func TestTheSDKIsDisabledDuringAnExchange(t *testing.T) {
	d := listen(t)
	srv := serve(t, "h1", echoTrace, transport.Config{})
	resp := srv.open(t, inLambda(d.context(t, true), lambdaHeader))
	t.Setenv("AWS_XRAY_SDK_DISABLED", "true")
	finish(t, resp)
	resp = srv.open(t, inLambda(d.context(t, true), lambdaHeader))
	t.Setenv("AWS_XRAY_SDK_DISABLED", "")
	finish(t, resp)
	if docs := d.documents(t); len(docs) != 0 {
		t.Errorf("documents %+v, want none", docs)
	}
	srv.get(t, inLambda(d.context(t, true), lambdaHeader), "/")
	one(t, d.documents(t), srv.name)
}
