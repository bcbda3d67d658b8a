package main

func elementwise() *file { return &file{name: "elementwise"} }
func exponential() *file { return &file{name: "exponential"} }
func reductions() *file  { return &file{name: "reductions"} }
func dropout() *file     { return &file{name: "dropout"} }
