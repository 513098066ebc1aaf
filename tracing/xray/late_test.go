package xray_test

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"

	awsxray "github.com/aws/aws-xray-sdk-go/v2/xray"

	"github.com/thawhttp/thaw/transport"
)

// In these tests an exchange ends when what is above it is over.

// open makes a request and leaves the body to be read.
func (d *downstream) open(t *testing.T, ctx context.Context) *http.Response {
	t.Helper()
	resp, err := d.client.Do(d.newRequest(t, ctx, "/"))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// finish reads the body.
func finish(t *testing.T, resp *http.Response) {
	t.Helper()
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
}

// complete returns those of the documents that are not in progress.
func complete(docs []document) []document {
	var done []document
	for _, d := range docs {
		if !d.InProgress {
			done = append(done, d)
		}
	}
	return done
}

func TestAnExchangeThatEndsAfterItsSegmentIsSentAlone(t *testing.T) {
	t.Parallel()
	d := listen(t)
	srv := serve(t, "h1", echoTrace, transport.Config{})
	ctx, seg := awsxray.BeginSegment(d.context(t, true), "program")
	resp := srv.open(t, ctx)
	seg.Close(nil)
	waitUntilSent(t, seg)
	before := d.documents(t)
	if sub := one(t, before, srv.name); !sub.InProgress || sub.HTTP.Request.Method != "GET" {
		t.Errorf("with its segment, the subsegment was sent as %+v, want it in progress", sub)
	}
	finish(t, resp)
	var after []document
	for _, doc := range d.documents(t) {
		if doc.ID != seg.ID { // which the SDK may have sent once more
			after = append(after, doc)
		}
	}
	sub := one(t, after, srv.name)
	if len(after) != 1 || sub.InProgress || sub.Type != "subsegment" || sub.ParentID != seg.ID || sub.TraceID != seg.TraceID || sub.HTTP.Response.Status != 200 {
		t.Errorf("documents %+v, want the subsegment alone, complete, below %s", after, seg.ID)
	}
	if inProgress := one(t, before, srv.name); inProgress.ID != sub.ID {
		t.Errorf("the subsegment in progress has the ID %s, the complete one %s", inProgress.ID, sub.ID)
	}
}

func TestAnExchangeThatEndsAfterAllAboveItIsSentAlone(t *testing.T) {
	t.Parallel()
	d := listen(t)
	srv := serve(t, "h1", echoTrace, transport.Config{})
	ctx, seg := awsxray.BeginSegment(d.context(t, true), "program")
	ctx, step := awsxray.BeginSubsegment(ctx, "step")
	resp := srv.open(t, ctx)
	step.Close(nil)
	seg.Close(nil)
	waitUntilSent(t, seg)
	before := d.documents(t)
	finish(t, resp)
	after := d.received(t) // as they were sent: putting them together would hide that one came twice
	if len(before) != 1 || len(after) != 1 || after[0].Name != srv.name || after[0].InProgress || after[0].ParentID != step.ID || after[0].TraceID != seg.TraceID {
		t.Errorf("documents %+v, then %+v, want the segment, then the exchange alone, complete, below %s", before, after, step.ID)
	}
}

// waitUntilSent waits for the goroutine in which the SDK sends a segment that was closed before what is below it. The SDK gives
// no other sign.
func waitUntilSent(t testing.TB, seg *awsxray.Segment) {
	eventually(t, func() bool {
		seg.RLock()
		defer seg.RUnlock()
		return seg.Emitted
	})
}

// The SDK sends a segment that is closed in several steps, the last one in a goroutine.
func TestAnExchangeThatEndsWhileItsSegmentIsClosedIsSentAlone(t *testing.T) {
	t.Parallel()
	d := listen(t)
	srv := serve(t, "h1", echoTrace, transport.Config{})
	ctx, seg := awsxray.BeginSegment(d.context(t, true), "program")
	resp := srv.open(t, ctx)
	seg.Lock()
	seg.InProgress = false // the first step
	seg.Unlock()
	finish(t, resp)
	if docs := d.received(t); len(docs) != 1 || docs[0].Name != srv.name || docs[0].ParentID != seg.ID || docs[0].InProgress {
		t.Errorf("documents %+v, want the exchange alone, complete, below %s", docs, seg.ID)
	}
	seg.Close(nil)
	if docs := d.documents(t); len(find(docs, srv.name)) != 0 || one(t, docs, "program").InProgress {
		t.Errorf("then documents %+v, want the segment without the exchange", docs)
	}
}

func TestAnExchangeAfterItsSegmentIsSentAlone(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(context.Context) (context.Context, *awsxray.Segment){
		"segment": func(ctx context.Context) (context.Context, *awsxray.Segment) {
			return awsxray.BeginSegment(ctx, "program")
		},
		"lambda, below a subsegment": func(ctx context.Context) (context.Context, *awsxray.Segment) {
			return awsxray.BeginSubsegment(inLambda(ctx, lambdaHeader), "work")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := listen(t)
			srv := serve(t, "h1", echoTrace, transport.Config{})
			ctx, seg := begin(d.context(t, true))
			seg.Close(nil)
			waitUntilSent(t, seg)
			d.documents(t)
			srv.get(t, ctx, "/")
			if sub := one(t, d.documents(t), srv.name); sub.Type != "subsegment" || sub.ParentID != seg.ID || sub.InProgress {
				t.Errorf("subsegment %+v, want it complete, alone, below %s", sub, seg.ID)
			}
		})
	}
}

func TestASubsegmentWaitsForItsExchanges(t *testing.T) {
	t.Parallel()
	for _, around := range surroundings[1:] {
		t.Run(around.name, func(t *testing.T) {
			t.Parallel()
			d := listen(t)
			srv := serve(t, "h1", echoTrace, transport.Config{})
			ctx, _, _, end := around.begin(d.context(t, true))
			ctx, seg := awsxray.BeginSubsegment(ctx, "step")
			resp := srv.open(t, ctx)
			seg.Close(nil)
			finish(t, resp)
			end()
			docs := d.documents(t)
			step := one(t, docs, "step")
			if step.InProgress || step.names() != srv.name || len(complete(find(docs, srv.name))) != 1 {
				t.Errorf("documents %+v, want step, complete, with the exchange in it", docs)
			}
		})
	}
}

// The handler's context is cancelled when the handler has returned.
func TestAContextThatEndsBeforeTheExchange(t *testing.T) {
	t.Parallel()
	for _, around := range surroundings {
		t.Run(around.name, func(t *testing.T) {
			t.Parallel()
			d := listen(t)
			srv := serve(t, "h1", echoTrace, transport.Config{})
			parent, cancel := context.WithCancel(d.context(t, true))
			ctx, trace, above, end := around.begin(parent)
			resp := srv.open(t, context.WithoutCancel(ctx)) // so that the body can be read
			root := awsxray.GetSegment(ctx)
			for root != nil && root.ParentSegment != root && !root.ParentSegment.Facade {
				root = root.ParentSegment
			}
			cancel()
			if root != nil && root.ParentSegment == root {
				eventually(t, func() bool {
					root.RLock()
					defer root.RUnlock()
					return root.ContextDone
				})
			}
			finish(t, resp)
			early := d.received(t)
			if around.name == "segment" && (len(early) != 1 || early[0].Name != srv.name || early[0].Type != "subsegment") {
				t.Errorf("documents %+v, want the exchange alone: the segment is still open", early)
			}
			end()
			docs := overwrite(append(early, d.received(t)...))
			sub := one(t, complete(find(docs, srv.name)), srv.name)
			if sub.ParentID != above || sub.TraceID != trace || sub.Fault || sub.Error {
				t.Errorf("subsegment %+v, want it in order, below %s", sub, above)
			}
			for _, name := range []string{"work", "program", "outer", "inner"} {
				if found := find(docs, name); len(found) > 0 && len(complete(found)) == 0 {
					t.Errorf("%s was never sent complete: %+v", name, docs)
				}
			}
		})
	}
}

// Whatever is closed first: every exchange is sent complete. The race detector watches.
func TestSegmentsAndExchangesEndAtOnce(t *testing.T) {
	t.Parallel()
	for _, around := range surroundings {
		t.Run(around.name, func(t *testing.T) {
			t.Parallel()
			const n = 8
			d := listen(t)
			srv := serve(t, "h2", echoTrace, transport.Config{})
			ctx, _, _, end := around.begin(d.context(t, true))
			open := make([]*http.Response, n)
			for i := range open {
				open[i] = srv.open(t, ctx)
			}
			var wg sync.WaitGroup
			wg.Go(end)
			for _, resp := range open {
				wg.Go(func() { finish(t, resp) })
			}
			wg.Wait()
			if seg := awsxray.GetSegment(ctx); seg != nil && !seg.ParentSegment.Facade {
				waitUntilSent(t, seg.ParentSegment)
			}
			ids := make(map[string]bool)
			for _, sub := range complete(find(d.documents(t), srv.name)) {
				ids[sub.ID] = true
			}
			if len(ids) != n {
				t.Errorf("%d exchanges were sent complete, want %d", len(ids), n)
			}
		})
	}
}
