# The variance components of the fat fraction in tests/frozen/r/cohort.csv, as an oracle for
# paravert.study.variance_components. Rscript tests/frozen/r/variance_components.R
# (Debian: r-base-core r-cran-lme4) writes variance_components.csv beside itself.
library(lme4)

here <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
data <- read.csv(file.path(here, "cohort.csv"))
data <- data[data$subject %in% names(which(table(data$subject) == 8)), ] # all muscles and sides
people <- data[!duplicated(data$subject), ]
data$decades <- (data$age_years - mean(people$age_years)) / 10
data$relative <- data$fat_fraction / ave(data$fat_fraction, data$muscle)
fit <- lmer(
  relative ~ 0 + muscle + muscle:sex + muscle:decades + muscle:side +
    (1 | subject) + (1 | subject:muscle) + (1 | subject:side),
  data,
  control = lmerControl(optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12))
)
found <- as.data.frame(VarCorr(fit))
names <- c(subject = "sd_subject", "subject:muscle" = "sd_muscle", "subject:side" = "sd_side", Residual = "sd_residual")
result <- data.frame(term = names[found$grp], estimate = found$sdcor)
write.csv(result, file.path(here, "variance_components.csv"), row.names = FALSE)
