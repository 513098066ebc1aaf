package retry

import (
	"fmt"
	"sync"
	"testing"
)

func at(host string) origin { return origin{"https", host} }

func TestBudgetIsSpentAndGivenBack(t *testing.T) {
	t.Parallel()
	b := newBudget(12)
	for i, want := range []bool{true, true, false} { // 12, 7, 2
		if got := b.take(at("a"), retryCost); got != want {
			t.Errorf("retry %d was allowed: %t, want %t", i+1, got, want)
		}
	}
	for range 3 {
		b.refund(at("a"))
	}
	if b.take(at("a"), timeoutCost) || !b.take(at("a"), retryCost) {
		t.Error("with 5 tokens, a retry after a timeout was allowed, or another one was not")
	}
	for range 100 {
		b.refund(at("a"))
	}
	if b.short.Load() != 0 || len(b.left) != 0 {
		t.Errorf("a full bucket is kept: %v", b.left)
	}
	if !b.take(at("a"), 12) || b.take(at("a"), 1) {
		t.Error("the bucket was filled beyond its size, or not to it")
	}
}

func TestOriginsHaveBudgetsOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := newBudget(5)
	for _, o := range []origin{at("a"), at("b"), {"http", "a"}} {
		if !b.take(o, 5) || b.take(o, 5) {
			t.Errorf("%v did not have exactly one retry", o)
		}
	}
}

func TestOriginsBeyondTheBoundTakeTheFullestBuckets(t *testing.T) {
	t.Parallel()
	b := newBudget(10)
	for i := range maxOrigins {
		b.take(at(fmt.Sprint(i)), 6)
	}
	for i := range 100 {
		o := at(fmt.Sprint("more", i))
		if !b.take(o, 5) || !b.take(o, 5) || b.take(o, 5) {
			t.Fatalf("%v did not have two retries", o)
		}
		b.refund(at(fmt.Sprint("well", i))) // says nothing of those that fail
	}
	if len(b.left) != maxOrigins {
		t.Errorf("%d buckets, want %d", len(b.left), maxOrigins)
	}
	for i := range 100 {
		if o := at(fmt.Sprint("more", i)); b.take(o, 5) {
			t.Fatalf("%v was forgotten before those that failed less", o)
		}
	}
}

func TestWithoutABudgetEverythingIsAllowed(t *testing.T) {
	t.Parallel()
	b := newBudget(Disabled)
	b.refund(at("a"))
	for range 1000 {
		if !b.take(at("a"), timeoutCost) {
			t.Fatal("refused")
		}
	}
}

func TestBudgetIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	b := newBudget(100)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 1000 {
				o := at(fmt.Sprint((i + n) % 3))
				if n%2 == 0 {
					b.take(o, retryCost)
				} else {
					b.refund(o)
				}
			}
		})
	}
	wg.Wait()
	for o, left := range b.left {
		if left < 0 || left >= 100 {
			t.Errorf("%v has %d tokens of 100", o, left)
		}
	}
}
