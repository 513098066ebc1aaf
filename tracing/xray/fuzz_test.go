package xray_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/thawhttp/thaw/tracing"
)

func FuzzTraceHeader(f *testing.F) {
	for _, s := range []string{
		"", lambdaHeader, lambdaHeader + ";Lineage=1:a1b2c3d4:0", "Root=;Parent=;Sampled=1", "Sampled=1", ";;=;==", "Root=a\r\nb;Parent=c;Sampled=1",
		"Root=1-58406520-a006649127e371903a2de97g;Parent=" + lambdaParent + ";Sampled=1",
		"Root=1x58406520xa006649127e371903a2de979;Parent=" + lambdaParent + ";Sampled=1",
		"Root=" + lambdaTrace + ";Parent=\x00\xff3c3f42cd8ad80;Sampled=1", "Self=1;Root=" + lambdaTrace, lambdaHeader + ";\x00=",
	} {
		f.Add(s, "https://api.example.com:443")
	}
	f.Add(lambdaHeader, "http://[::1%25eth0]:8080")
	d := listen(f)
	ctx := d.context(f, true)
	f.Fuzz(func(t *testing.T, incoming, origin string) {
		h := exchange(inLambda(ctx, incoming), tracing.Exchange{Method: http.MethodGet, URL: origin, Origin: origin, Began: time.Now(), Status: 200})
		docs := d.documents(t) // which validates
		if len(docs) > 1 {
			t.Errorf("%d documents", len(docs))
		}
		sent := h.Get("X-Amzn-Trace-Id")
		if strings.ContainsAny(sent, "\r\n\x00") {
			t.Errorf("the trace header %q breaks the request", sent)
		}
		if len(docs) == 1 && !strings.Contains(sent, "Parent="+docs[0].ID) {
			t.Errorf("the trace header %q does not name the subsegment %s", sent, docs[0].ID)
		}
	})
}
