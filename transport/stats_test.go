package transport

import (
	"context"
	"reflect"
	"sync"
	"testing"
)

func TestASnapshotIsTheSumOfItsOrigins(t *testing.T) {
	s := serve(t, plain)
	p := newPool(t, plain, Config{})
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if err := p.send(s.request(context.Background(), "GET", "id", noBody)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		close(done)
	}()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		st := p.Stats()
		var sum Origin
		for _, o := range st.Origins {
			sum.add(o)
		}
		if sum != st.Origin {
			t.Fatalf("the sum is\n%+v, the parts add up to\n%+v", st.Origin, sum)
		}
		if st.Reused > st.Requests {
			t.Fatalf("%d of %d requests reused a connection", st.Reused, st.Requests)
		}
	}
}

func TestTheRestIsWhatIsOfNoOriginThatWasReached(t *testing.T) {
	// Every field has a value of its own.
	var n int64
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		for i := range v.NumField() {
			n++
			switch f := v.Field(i); {
			case f.CanInt():
				f.SetInt(n)
			case f.CanUint():
				f.SetUint(uint64(n))
			default:
				fill(f)
			}
		}
	}
	some := func() (o Origin) {
		fill(reflect.ValueOf(&o).Elem())
		return o
	}
	reached, forgotten := some(), some()
	tried := Origin{Dials: 3, DialErrors: 2, Dialing: 1, Waiting: 5}
	if !reached.Reached() || tried.Reached() {
		t.Fatal("what was reached and what was not is mistaken")
	}
	s := Stats{Origins: map[string]Origin{"reached": reached, "tried": tried}}
	for _, o := range []Origin{reached, forgotten, tried} {
		s.add(o)
	}
	want := forgotten
	want.add(tried)
	if got := s.Rest(); got != want {
		t.Errorf("the rest is\n%+v, want\n%+v", got, want)
	}
}
