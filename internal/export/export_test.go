package export

import (
	"testing"
)

func TestX(t *testing.T) {
	s, err := Open(t.Context(), "../../testdata/golden/tiny-llama", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	t.Log(s.modelfile("x.gguf"))
	if err := s.GGUF(t.Context(), t.TempDir()+"/x.gguf", "x", "Q4_K_M", nil); err != nil {
		t.Fatal(err)
	}
}
