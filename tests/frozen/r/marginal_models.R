# The models of tests/frozen/r/cohort.csv in R, as an oracle for paravert.study.inference.
# Rscript tests/frozen/r/marginal_models.R   (Debian: r-base-core r-cran-sandwich r-cran-geepack)
# writes contrasts.csv, adjusted_means.csv and weighted_contrasts.csv beside itself; the last with
# inverse-probability weights from people.csv (inside: 1 in the cohort, 0 missing).
library(sandwich)
library(geepack)

here <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
muscles <- c("psoas_major", "quadratus_lumborum", "erector_spinae", "multifidus")
data <- read.csv(file.path(here, "cohort.csv"))
data$muscle <- factor(data$muscle, muscles)
data$side <- factor(data$side, c("left", "right"))
data$sex <- factor(data$sex, c("F", "M"))
data$id <- as.integer(factor(data$subject))
people <- data[!duplicated(data$subject), ]
data$decades <- (data$age_years - mean(people$age_years)) / 10
people$decades <- (people$age_years - mean(people$age_years)) / 10
df <- nrow(people) - 3

sheet <- read.csv(file.path(here, "people.csv"))
logistic <- glm(inside ~ sex + age_years + I(age_years^2) + weight_kg, binomial, sheet, control = glm.control(epsilon = 1e-12))
stabilised <- mean(sheet$inside) / fitted(logistic)[sheet$inside == 1]
ends <- quantile(stabilised, c(.001, .999))
stabilised <- pmin(pmax(stabilised, ends[1]), ends[2])
names(stabilised) <- sheet$subject[sheet$inside == 1]
stabilised <- (stabilised / mean(stabilised))[people$subject]
cat("effective number of subjects:", format(sum(stabilised)^2 / sum(stabilised^2), digits = 12), "\n")

form <- ~ 0 + muscle + muscle:sex + muscle:decades + muscle:side
cells <- function(...) {
  cell <- expand.grid(muscle = muscles, sex = c("F", "M"), side = c("left", "right"),
    decades = weighted.mean(people$decades, of_people))
  for (name in names(list(...))) cell <- cell[cell[[name]] %in% list(...)[[name]], ]
  cell
}
weights <- function(cell, share, terms) {
  cell$muscle <- factor(cell$muscle, muscles)
  cell$sex <- factor(cell$sex, c("F", "M"))
  cell$side <- factor(cell$side, c("left", "right"))
  m <- model.matrix(form, cell)
  stopifnot(colnames(m) == terms)
  colSums(m * share) / sum(share)
}
shares <- function(cell) ifelse(cell$sex == "M", weighted.mean(people$sex == "M", of_people),
  weighted.mean(people$sex == "F", of_people))

for (weighted in c(TRUE, FALSE)) {
of_people <- if (weighted) stabilised else rep(1, nrow(people))
data$w <- setNames(of_people, people$subject)[data$subject]
results <- NULL
means <- NULL
for (outcome in c("csa_mean_mm2", "fat_fraction")) {
  fit <- if (outcome == "csa_mean_mm2") lm(update(form, paste(outcome, "~ .")), data, weights = w) else
    glm(update(form, paste(outcome, "~ .")), quasibinomial, data, weights = w, control = glm.control(epsilon = 1e-12))
  # Mancl and DeRouen 2001: each cluster's residuals by the inverse of identity - leverage
  x <- model.matrix(fit)
  mu <- fitted(fit)
  derivative <- if (outcome == "csa_mean_mm2") rep(1, length(mu)) else mu * (1 - mu)
  variance <- derivative / data$w
  slope <- x * derivative
  bread <- solve(t(slope) %*% (slope / variance))
  meat <- 0
  for (id in unique(data$id)) {
    rows <- data$id == id
    d <- slope[rows, , drop = FALSE]
    h <- d %*% bread %*% t(d / variance[rows])
    r <- solve(diag(sum(rows)) - h, (data[[outcome]] - mu)[rows])
    s <- t(d / variance[rows]) %*% r
    meat <- meat + s %*% t(s)
  }
  v <- bread %*% meat %*% bread
  if (outcome == "csa_mean_mm2" && !weighted) {
    cr3 <- vcovCL(fit, ~id, type = "HC3", cadjust = FALSE)
    cat("sandwich HC3 against the formula, largest relative difference:", max(abs(diag(cr3) / diag(v) - 1)), "\n")
  }
  gee <- geeglm(update(form, paste(outcome, "~ .")), id = id, data = data, weights = w,
    family = if (outcome == "csa_mean_mm2") gaussian else binomial, corstr = "independence")
  cat("geepack against lm/glm, largest difference of coefficients:", max(abs(coef(gee) - coef(fit))), "\n")
  b <- coef(fit)
  add <- function(family, muscle, w) {
    se <- sqrt(drop(w %*% v %*% w))
    est <- sum(w * b)
    reach <- qt(.975, df) * se
    results <<- rbind(results, data.frame(family, outcome, muscle, link_estimate = est, standard_error = se,
      link_low = est - reach, link_high = est + reach, p_value = 2 * pt(-abs(est / se), df)))
  }
  w <- function(...) { cell <- cells(...); weights(cell, shares(cell), names(b)) }
  old <- function(cell) { cell$decades <- cell$decades + 1; cell }
  for (m in muscles) add(if (outcome == "csa_mean_mm2") "sex, area" else "sex, fat", m,
    w(muscle = m, sex = "M") - w(muscle = m, sex = "F"))
  for (m in muscles) { cell <- cells(muscle = m)
    add("age", m, weights(old(cell), shares(cell), names(b)) - weights(cell, shares(cell), names(b))) }
  if (outcome == "fat_fraction") add("muscles, fat", "", (w(muscle = muscles[4]) + w(muscle = muscles[3])) / 2 -
    (w(muscle = muscles[1]) + w(muscle = muscles[2])) / 2)
  for (m in muscles) add("side", m, w(muscle = m, side = "left") - w(muscle = m, side = "right"))
  back <- if (outcome == "csa_mean_mm2") identity else plogis
  for (m in muscles) for (s in c("F", "M")) for (age in c(30, 50, 70)) {
    cell <- cells(muscle = m, sex = s)
    cell$decades <- (age - mean(people$age_years)) / 10
    k <- weights(cell, shares(cell), names(b))
    se <- sqrt(drop(k %*% v %*% k))
    means <- rbind(means, data.frame(outcome, muscle = m, sex = s, age_years = age, estimate = back(sum(k * b)),
      low_95 = back(sum(k * b) - qt(.975, df) * se), high_95 = back(sum(k * b) + qt(.975, df) * se)))
  }
}
results$p_holm <- ave(results$p_value, results$family, FUN = function(p) p.adjust(p, "holm"))
name <- if (weighted) "weighted_contrasts.csv" else "contrasts.csv"
write.csv(format(results, digits = 10, trim = TRUE), file.path(here, name), row.names = FALSE, quote = TRUE)
}
write.csv(format(means, digits = 10, trim = TRUE), file.path(here, "adjusted_means.csv"), row.names = FALSE, quote = TRUE)
