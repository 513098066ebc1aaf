package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/lambdahandler"
	"github.com/thawhttp/thaw/lambdatest"
	"github.com/thawhttp/thaw/transport"
)

// initShares are the shares of a CPU that a function gets, with the memory size that has them: one CPU at 1,769 MB.
var initShares = []struct {
	memoryMB int
	share    float64
}{{128, 0.07}, {512, 0.29}, {1769, 1}}

// throttlePeriod is how often a limited function is stopped, each time for what exceeds its share. Lambda's own limit is
// one of CPU time, and lets a function go on that waits; this one is of time.
const throttlePeriod = 20 * time.Millisecond

// functionEnv carries a functionOrder, in JSON.
const functionEnv = "THAW_BENCH_FUNCTION"

// functionOrder is what a process is told that is a function.
type functionOrder struct {
	Server hello
	Init   bool // make the connection in the init phase
}

// answered is what the function answers.
type answered struct {
	Dials uint64 // that the pool began for it
}

// serveFunction is the main function of such a process: it makes one request an invocation, over HTTP/1.1 and TLS.
func serveFunction() error {
	var o functionOrder
	if err := json.Unmarshal([]byte(os.Getenv(functionEnv)), &o); err != nil {
		return err
	}
	s, err := newServer(o.Server)
	if err != nil {
		return err
	}
	api, err := client.New(client.WithTransport(transport.Config{TLS: &tls.Config{RootCAs: s.roots}}))
	if err != nil {
		return err
	}
	url := s.url(tls1, "/")
	if o.Init {
		if err := lambdahandler.Init(api, 5*time.Second, url); err != nil {
			return err
		}
	}
	before := api.Stats().Dials
	lambda.Start(lambdahandler.New(api, func(ctx context.Context) (answered, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return answered{}, err
		}
		resp, err := api.Do(req)
		if err != nil {
			return answered{}, err
		}
		return answered{api.Stats().Dials - before}, finish(resp)
	}))
	return nil
}

// first is the first invocation of a function.
type first struct {
	took  time.Duration
	dials uint64
}

// invokeFirst starts a function, limits it to the share of a CPU once its init is over, and invokes it.
func invokeFirst(s *server, memoryMB int, share float64, withInit bool) (_ first, err error) {
	self, err := os.Executable()
	if err != nil {
		return first{}, err
	}
	order, err := json.Marshal(functionOrder{s.hello, withInit})
	if err != nil {
		return first{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fn, err := lambdatest.Start(ctx, lambdatest.Config{
		Path:     self,
		Env:      []string{roleEnv + "=" + roleFunction, functionEnv + "=" + string(order)},
		MemoryMB: memoryMB,
		Timeout:  30 * time.Second,
		Stderr:   os.Stderr,
	})
	if err != nil {
		return first{}, err
	}
	defer fn.Stop(ctx)
	release, err := throttle(fn.Pid(), share)
	if err != nil {
		return first{}, err
	}
	defer release()
	res, err := fn.Invoke(ctx, nil)
	if err != nil {
		return first{}, err
	}
	if res.Err != nil {
		return first{}, res.Err
	}
	var a answered
	if err := json.Unmarshal(res.Payload, &a); err != nil {
		return first{}, err
	}
	return first{res.Duration, a.Dials}, nil
}

// initResult is the first invocation at one share of a CPU, medians of the rounds.
type initResult struct {
	MemoryMB     int           `json:"memory_mb"`
	Share        float64       `json:"share"` // of a CPU
	Rounds       int           `json:"rounds"`
	With         time.Duration `json:"with"`    // nanoseconds, with lambdahandler.Init
	Without      time.Duration `json:"without"` // nanoseconds
	DialsWith    uint64        `json:"dials_with"`
	DialsWithout uint64        `json:"dials_without"`
}

// runInit measures the first invocation with and without Init, in turns.
func runInit(s *server, memoryMB int, share float64, rounds int) (initResult, error) {
	r := initResult{MemoryMB: memoryMB, Share: share, Rounds: rounds}
	var took [2][]float64
	for range rounds {
		for i, with := range []bool{true, false} {
			f, err := invokeFirst(s, memoryMB, share, with)
			if err != nil {
				return r, fmt.Errorf("init, %d MB: %w", memoryMB, err)
			}
			took[i] = append(took[i], float64(f.took))
			if with {
				r.DialsWith += f.dials
			} else {
				r.DialsWithout += f.dials
			}
		}
	}
	r.With, r.Without = time.Duration(quantile(took[0], 0.5)), time.Duration(quantile(took[1], 0.5))
	return r, nil
}
