module weft.invalid/tests/kube/pause

go 1.26.0

tool weft.invalid/tests/kube/pause
