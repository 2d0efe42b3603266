"""What is minimised: pixel losses, VGG features and LPIPS, adversaries."""
