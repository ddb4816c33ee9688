"""StyleGAN2 in plain torch: generator, latent projection and model adaptation of paper 000."""
