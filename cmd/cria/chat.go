package main

import "github.com/spf13/cobra"

func newChat(ui *ui) *cobra.Command { return &cobra.Command{Use: "chat MODEL"} }
