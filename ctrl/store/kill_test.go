package store

const victimDir = "SFC_STORE_VICTIM"

func victim(dir string) {}
