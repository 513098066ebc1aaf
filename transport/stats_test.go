package transport

import (
	"context"
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
