package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/thawhttp/thaw/transport"
)

func TestMain(m *testing.M) {
	play()
	code := m.Run()
	if started != nil {
		started.stop()
	}
	os.Exit(code)
}

// started is the server that the tests share, once one of them asked for it.
var started *server

var startOnce = sync.OnceValue(func() (err error) {
	started, err = startServer()
	return err
})

func theServer(tb testing.TB) *server {
	tb.Helper()
	if err := startOnce(); err != nil {
		tb.Fatal(err)
	}
	return started
}

// skipUnderRace skips a test of memory: the race detector allocates for itself, and makes sync.Pool forget at
// random.
func skipUnderRace(t *testing.T) {
	t.Helper()
	info, _ := debug.ReadBuildInfo()
	if info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector changes what is allocated")
	}
}

// forAllocations runs a race in every case, a few rounds of it, and hands the result to check.
func forAllocations(t *testing.T, race [lanes]contestant, check func(t *testing.T, r steadyResult)) {
	t.Helper()
	skipUnderRace(t)
	s := theServer(t)
	// A collection empties every sync.Pool, and then counts depend on when it came.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for _, c := range steadyCases() {
		t.Run(c.name(), func(t *testing.T) {
			st, err := newSteady(s, race, c, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer st.close()
			st.slice = 500
			for range 6 {
				if err := st.round(); err != nil {
					t.Fatal(err)
				}
			}
			check(t, st.result())
		})
	}
}

func TestRequestAllocatesNoMoreThanWithHTTPTransport(t *testing.T) {
	forAllocations(t, poolRace, func(t *testing.T, r steadyResult) {
		t.Logf("allocations %s, bytes %s", r.Allocs.pair("%.2f", 1), r.Bytes.pair("%.0f", 1))
		if r.Allocs.aboveByHalf() {
			t.Errorf("a request allocates %.2f objects, with http.Transport %.2f", r.Allocs.Thaw, r.Allocs.HTTP)
		}
		if r.Callers == 1 && r.Bytes.Thaw > r.Bytes.HTTP { // with more it is up to chance how many buffers are in use at once
			t.Errorf("a request allocates %.0f bytes, with http.Transport %.0f", r.Bytes.Thaw, r.Bytes.HTTP)
		}
	})
}

func TestRetriesAllocateNextToNothing(t *testing.T) {
	forAllocations(t, retryRace, func(t *testing.T, r steadyResult) {
		t.Logf("allocations %s", r.Allocs.pair("%.2f", 1))
		if r.Allocs.Thaw > r.Allocs.HTTP+retryAllocs {
			t.Errorf("with retries a request allocates %.2f objects, without %.2f: want at most %d more", r.Allocs.Thaw, r.Allocs.HTTP, retryAllocs)
		}
	})
}

// originBytes is what the books of an origin may take. Over HTTP/2 each of the connections has an origin of its own.
const originBytes = 2200

func TestIdleConnectionTakesNoMoreMemoryThanHTTPTransports(t *testing.T) {
	skipUnderRace(t)
	s := theServer(t)
	for _, proto := range protocols {
		t.Run(proto, func(t *testing.T) {
			id := &idle{server: s, protocol: proto, conns: 300}
			for range 3 {
				if err := id.round(); err != nil {
					t.Fatal(err)
				}
			}
			r := id.result().Bytes
			t.Logf("bytes %s, ratio %s, noise %s", r.pair("%.0f", 1), r.Ratio, r.Noise)
			books := 0.0
			if proto == h2 {
				books = originBytes
			}
			if r.Above && r.Thaw > r.HTTP+books {
				t.Errorf("an idle connection takes %.0f bytes, http.Transport's takes %.0f", r.Thaw, r.HTTP)
			}
		})
	}
}

func TestColdBurstDialsNoMoreThanItsStreamsNeed(t *testing.T) {
	s := theServer(t)
	for _, requests := range burstSizes {
		b, err := runBurst(s, thaw, requests)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d requests: %d dials, %d failed", requests, b.Dials, b.Failed)
		if b.Failed > 0 {
			t.Errorf("%d of %d requests failed", b.Failed, requests)
		}
		if limit := burstLimit(requests); b.Dials > limit {
			t.Errorf("%d requests made %d dials: want at most %d", requests, b.Dials, limit)
		}
	}
}

func TestCommandPrintsEveryMeasurement(t *testing.T) {
	quick := []string{"-rounds", "1", "-slice", "1ms", "-conns", "3", "-repeat", "1", "-case", "64 callers POST"}

	var table bytes.Buffer
	if err := run(append(quick, "steady", "retry", "idle"), &table, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"steady state", "tls 64 callers POST", "with retries, to the bare pool", "h2, 3 of them"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}

	var out bytes.Buffer
	if err := run(append(quick, "-json"), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Steady) != 3 || len(r.Retry) != 3 || len(r.Idle) != 3 || len(r.Burst) != 3*len(burstSizes) || len(r.Init) != len(initShares) {
		t.Errorf("the report has %d steady, %d retry, %d idle, %d burst and %d init results", len(r.Steady), len(r.Retry), len(r.Idle), len(r.Burst), len(r.Init))
	}
}

func TestFirstInvocationDialsNothingAfterInit(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no process can be stopped here")
	}
	const rounds = 2
	r, err := runInit(theServer(t), 128, 0.07, rounds)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("with Init %v, without %v", r.With, r.Without)
	if r.DialsWith != 0 || r.DialsWithout != rounds {
		t.Errorf("%d dials with Init and %d without in %d first invocations each; want none, and one each", r.DialsWith, r.DialsWithout, rounds)
	}
	if r.With <= 0 || r.Without <= 0 {
		t.Errorf("%v with Init, %v without", r.With, r.Without)
	}
}

func TestCommandNamesWhatIsWrong(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"stedy", `there is no measurement "stedy": want any of steady, retry, idle, burst, init`},
		{"-rounds 0", "-rounds must be positive"},
		{"-case h3", `-case "h3" is part of no case`},
		{"-fast", "flag provided but not defined: -fast"},
	} {
		err := run(strings.Fields(tt.args), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("run %s: %v, want %s", tt.args, err, tt.want)
		}
	}
}

// BenchmarkRoundTrip is one contestant in one case, for profiles and for benchstat:
//
//	go test -run '^$' -bench RoundTrip -count 10 | benchstat -col /client -
func BenchmarkRoundTrip(b *testing.B) {
	s := theServer(b)
	for _, c := range steadyCases() {
		for _, who := range []contestant{thaw, tuned} {
			b.Run(c.name()+"/client="+who.name, func(b *testing.B) {
				req, err := newRequest(c.Method, s.url(c.Protocol, "/"))
				if err != nil {
					b.Fatal(err)
				}
				l, err := s.enter(who, transport.Config{})
				if err != nil {
					b.Fatal(err)
				}
				defer l.close()
				if err := l.warm(req, c.Callers); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				cpu := cpuTime()
				if err := l.exchanges(req, c.Callers, b.N); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// BenchmarkSteady races the contestants in one case, each iteration a round, and reports ratios.
func BenchmarkSteady(b *testing.B) {
	s := theServer(b)
	for _, c := range steadyCases() {
		b.Run(c.name(), func(b *testing.B) {
			st, err := newSteady(s, poolRace, c, defaultSlice)
			if err != nil {
				b.Fatal(err)
			}
			defer st.close()
			for b.Loop() {
				if err := st.round(); err != nil {
					b.Fatal(err)
				}
			}
			r := st.result()
			b.ReportMetric(0, "ns/op") // The time of a round says nothing.
			b.ReportMetric(r.CPU.Ratio.Total, "cpu-ratio")
			b.ReportMetric(r.CPU.Noise.Total, "cpu-noise")
			b.ReportMetric(r.Wall.Ratio.Total, "wall-ratio")
			b.ReportMetric(r.Wall.Noise.Total, "wall-noise")
			b.ReportMetric(r.Allocs.Ratio.Total, "allocs-ratio")
			b.ReportMetric(r.Bytes.Ratio.Total, "bytes-ratio")
		})
	}
}

// BenchmarkBurst is one contestant's cold burst, each iteration one.
func BenchmarkBurst(b *testing.B) {
	s := theServer(b)
	for _, requests := range burstSizes {
		for _, who := range []contestant{thaw, tuned} {
			b.Run(fmt.Sprintf("requests=%d/client=%s", requests, who.name), func(b *testing.B) {
				var sum burst
				for b.Loop() {
					one, err := runBurst(s, who, requests)
					if err != nil {
						b.Fatal(err)
					}
					sum.Failed += one.Failed
					sum.Dials += one.Dials
					sum.CPU += one.CPU
					sum.Wall += one.Wall
				}
				n := float64(b.N)
				b.ReportMetric(0, "ns/op") // It would count closing the connections.
				b.ReportMetric(float64(sum.Failed)/n, "failed/op")
				b.ReportMetric(float64(sum.Dials)/n, "dials/op")
				b.ReportMetric(float64(sum.CPU)/n, "cpu-ns/op")
				b.ReportMetric(float64(sum.Wall)/n, "wall-ns/op")
			})
		}
	}
}
