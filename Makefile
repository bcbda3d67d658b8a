# Shortcuts. Nothing here is needed to build or use cria: go build -o cria ./cmd/cria

.PHONY: test ci bench bench-peers interop demo generate lint

test: ## the test command of the README
	go test ./...

ci: ## everything that CI runs
	bash .ci/run

bench: ## benchmarks of the kernels, backends and the tokenizer
	go test -run='^$$' -bench=. ./internal/compute/... ./internal/tokenizer

interop: ## cria judged by transformers and peft (needs Python; see interop/README.md)
	bash interop/run

bench-peers: ## speed and memory beside transformers and peft, about an hour (needs Python; see interop/README.md)
	bash interop/bench-peers

demo:
	go run ./cmd/cria demo

generate: ## assembly and the recipe's reference
	go generate ./...

lint:
	test -z "$$(gofmt -l .)"
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
