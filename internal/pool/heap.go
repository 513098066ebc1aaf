package pool

// heap has the T with the lowest key first. Each slot is a part of what it holds, so that taking one out takes no search. The
// zero value is empty.
type heap[T any] struct{ slots []*slot[T] }

// slot is the place of a T in at most one heap.
type slot[T any] struct {
	key int64
	at  int // in heap.slots
	in  *heap[T]
	v   *T
}

func (h *heap[T]) len() int { return len(h.slots) }

// first returns what has the lowest key, or nil.
func (h *heap[T]) first() *T {
	if len(h.slots) == 0 {
		return nil
	}
	return h.slots[0].v
}

// put puts v, whose place is s, into h, or moves it if it is there already. It leaves the heap that it is in.
func (h *heap[T]) put(s *slot[T], v *T, key int64) {
	if s.in != h {
		s.leave()
		s.in, s.at, s.v = h, len(h.slots), v
		h.slots = append(h.slots, s)
	}
	s.key = key
	h.settle(s.at)
}

// queued reports whether s is in a heap.
func (s *slot[T]) queued() bool { return s.in != nil }

// leave takes s out of its heap, if it is in one.
func (s *slot[T]) leave() {
	h := s.in
	if h == nil {
		return
	}
	i, last := s.at, len(h.slots)-1
	h.move(h.slots[last], i)
	h.slots[last] = nil
	h.slots = h.slots[:last]
	s.in = nil
	if i < last {
		h.settle(i)
	}
}

// settle moves the slot at i to where its key belongs.
func (h *heap[T]) settle(i int) {
	s := h.slots[i]
	for i > 0 {
		parent := (i - 1) / 2
		if h.slots[parent].key <= s.key {
			break
		}
		h.move(h.slots[parent], i)
		i = parent
	}
	for {
		child := 2*i + 1
		if child+1 < len(h.slots) && h.slots[child+1].key < h.slots[child].key {
			child++
		}
		if child >= len(h.slots) || s.key <= h.slots[child].key {
			break
		}
		h.move(h.slots[child], i)
		i = child
	}
	h.move(s, i)
}

func (h *heap[T]) move(s *slot[T], i int) { h.slots[i], s.at = s, i }
