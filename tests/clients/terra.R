# What terra reads and makes, written down for Python: one text of facts and one file of doubles for each name.
library(terra)
folder <- commandArgs(TRUE)[1]

fact <- function(...) cat(..., sep = "\n")

# layer by layer, row by row from the north; NA is a NaN
keep <- function(name, numbers) writeBin(as.double(numbers), file.path(folder, paste0(name, ".bin")))

instants <- function(r) {
  t <- time(r)
  if (all(is.na(t))) return("")
  format(as.POSIXct(t, tz = "UTC"), "%Y-%m-%dT%H:%M:%OS3", tz = "UTC")
}

tell <- function(name, read) {
  sink(file.path(folder, paste0(name, ".txt")))
  tryCatch({
    r <- read()
    if (inherits(r, "SpatRaster")) {
      fact(crs(r, describe = TRUE)$code, paste(dim(r), collapse = " "), paste(format(as.vector(ext(r)), digits = 17), collapse = " "))
      fact(paste(instants(r), collapse = " "), paste(names(r), collapse = "|"), paste(units(r), collapse = "|"))
      keep(name, values(r))
    } else {
      keep(name, r)
    }
  }, error = function(e) fact(paste("ERROR", conditionMessage(e))))
  sink()
}
